package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
)

// bucketPlace is a place with a bucket on a real server, which the program reaches through its environment. The server keeps each object
// as a file, so that a reader of files sees what one of the bucket would.
type bucketPlace struct {
	*place
	server *s3test.Server
	bucket string
}

func newBucketPlace(t *testing.T) *bucketPlace {
	p := &bucketPlace{place: newPlace(t), server: s3test.Start(t)}
	p.bucket = p.server.Bucket(t)
	credentials := p.server.Options().Credentials
	p.env = append(p.env, "AWS_ACCESS_KEY_ID="+credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+credentials.SecretAccessKey, "AWS_REGION="+s3test.Region,
		"AWS_ENDPOINT_URL="+p.server.Endpoint, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	return p
}

func (p *bucketPlace) uri(key string) string { return "s3://" + p.bucket + "/" + key }

// rows reads what is below a key. Between the two steps of looking, an object that is overwritten may go.
func (p *bucketPlace) rows(key string) []string { return readRows(p.t, p.server.Path(p.bucket, key)) }

// check looks at a complete output.
func (p *bucketPlace) check(key, jobID string, want []string) {
	p.t.Helper()
	equalRows(p.t, p.rows(key), want)
	root := p.server.Path(p.bucket, key)
	success, err := folder.ReadSuccess(root)
	if err != nil || string(success.Job) != jobID || success.Rows != int64(len(want)) {
		p.t.Errorf("_SUCCESS: %+v, %v", success, err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == folder.SuccessName, folder.JobOf(name) == success.Job:
		case name == folder.NotesName: // The server keeps folders that were emptied.
			notes, err := os.ReadDir(filepath.Join(root, name))
			if err != nil {
				p.t.Fatal(err)
			}
			for _, note := range notes {
				if !folder.IsRecord(note.Name(), success.Job) {
					p.t.Errorf("%s stays behind", note.Name())
				}
			}
		default:
			p.t.Errorf("%s stays behind", name)
		}
	}
	if left := p.server.Uploads(p.t, p.bucket); len(left) > 0 {
		p.t.Errorf("uploads stay behind: %v", left)
	}
}

// TestRunIntoBucketIsResumed kills `engine run` when its first part is in the bucket, and lets the same submission id go on.
func TestRunIntoBucketIsResumed(t *testing.T) {
	p := newBucketPlace(t)
	p.wineFiles(8, rowsOfFile)
	want := p.wantedRows()
	for _, mode := range []string{"error", "overwrite"} {
		key := "deep/" + mode
		job := p.wineJob(mode+".yaml", p.uri(key), mode)
		command := p.command("run", job, "--submission-id", mode)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first part", func() bool {
			parts, err := filepath.Glob(p.server.Path(p.bucket, key+"/part-*"))
			return err == nil && len(parts) > 0
		})
		if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = command.Wait() // It was killed.
		if rows := p.rows(key); len(slices.Compact(rows)) != len(rows) {
			t.Error("a reader sees a row twice")
		}
		result := parseResult(t, p.must("run", job, "--submission-id", mode, "-o", "json").stdout)
		if result.State != "SUCCEEDED" || result.RowsWritten != int64(len(want)) || !strings.HasPrefix(result.Outputs[0], p.uri(key)+"/part-") {
			t.Errorf("%+v", result)
		}
		p.check(key, result.JobID, want)
	}
	// What one job wrote, another does not touch unless it is told to.
	if o := p.engine("run", p.wineJob("again.yaml", p.uri("deep/error"), "error")); o.code != 5 || !strings.Contains(o.stderr, "written by job") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	over := p.must("run", p.wineJob("over.yaml", p.uri("deep/error"), "overwrite"), "-o", "json")
	p.check("deep/error", parseResult(t, over.stdout).JobID, want)
	if shown := p.engine("run", p.wineJob("shown.yaml", p.uri("deep/shown"), "error")); !strings.Contains(shown.stderr+shown.stdout, p.uri("deep/shown")+" (8 files)") {
		t.Errorf("the output is shown as %s", shown.stderr)
	}
}

// TestRunIntoBucketKilledAnywhere kills `engine run` at random instants, until it ends by itself.
func TestRunIntoBucketKilledAnywhere(t *testing.T) {
	testenv.Full(t)
	p := newBucketPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's randomness.
	for _, c := range []struct{ name, mode, format string }{
		{"error", "error", "parquet"}, {"append", "append", "parquet"}, {"overwrite", "overwrite", "parquet"}, {"notes", "error", "csv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.place.t = t
			key := "any/" + c.name
			job := p.wineJob(c.name+".yaml", p.uri(key), c.mode)
			args := []string{"run", job, "--submission-id", c.name}
			if c.format == "csv" {
				content, err := os.ReadFile(job)
				if err != nil {
					t.Fatal(err)
				}
				p.write(filepath.Base(job), strings.Replace(string(content), "parquet:", "csv:", 1))
			}
			for round := 0; ; round++ {
				if round > 200 {
					t.Fatal("the run never ends by itself")
				}
				// Later rounds get more time, so that it comes to an end.
				if p.runFor(time.Duration(20+random.IntN(60+20*round))*time.Millisecond, args...) {
					break
				}
				rows := p.rows(key)
				if len(slices.Compact(rows)) != len(rows) {
					t.Fatalf("round %d: a reader sees a row twice", round)
				}
			}
			result := parseResult(t, p.must(append(args, "-o", "json")...).stdout)
			if c.format == "parquet" {
				p.check(key, result.JobID, want)
				return
			}
			copied := p.write("copy-"+c.name+".yaml", fmt.Sprintf("source:\n  csv: {paths: [%q]}\nsink:\n  parquet: {path: copy-%s}\n", p.uri(key), c.name))
			p.must("run", copied)
			if rows := readRows(t, p.path("copy-"+c.name)); len(rows) != len(want) || len(slices.Compact(rows)) != len(want) {
				t.Errorf("%d rows, want %d", len(rows), len(want))
			}
		})
	}
}
