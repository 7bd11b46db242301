package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/pgtest"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The secrets of the tests. Nothing that the engine writes, shows, or is started with may hold one.
const (
	canaryPassword = "canary-password-1f83"
	canaryWrong    = "canary-wrong-5be0"
	canaryKey      = "canary-key-9b05"
	canaryToken    = "canary-token-c2b2"
	canaryNode     = "canary-node-a54f"
)

var canaries = []string{canaryPassword, canaryWrong, canaryKey, canaryToken, canaryNode, s3test.SecretKey}

// sees fails the test if a text holds a secret.
func sees(t *testing.T, where, text string) {
	t.Helper()
	for _, canary := range canaries {
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s shows %s: …%q", where, canary, text[max(0, at-100):min(len(text), at+60)])
		}
	}
}

// secretPlace is a place with a bucket and a database that both want a secret, and files with secrets that lie elsewhere.
type secretPlace struct {
	*place
	postgres *pgtest.Server
	s3       *s3test.Server
	database string
	bucket   string
	// secrets is the folder of the files with secrets.
	secrets string
}

const guardedUser = "guarded"

func newSecretPlace(t *testing.T) *secretPlace {
	p := &secretPlace{place: newPlace(t), postgres: pgtest.Start(t), s3: s3test.Start(t), secrets: t.TempDir()}
	p.database, p.bucket = p.postgres.Database(t, false), p.s3.Bucket(t)
	p.postgres.Guard(t, p.database, guardedUser, canaryPassword)
	p.env = append(p.env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "PGPASSWORD=", "PGPASSFILE=/dev/null")
	for name, secret := range map[string]string{"pg": canaryPassword, "wrong": canaryWrong, "s3": s3test.SecretKey, "key": canaryKey, "token": canaryToken} {
		if err := os.WriteFile(p.secret(name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *secretPlace) secret(name string) string { return filepath.Join(p.secrets, name) }

func (p *secretPlace) url() string { return p.postgres.GuardedURL(p.database, guardedUser) }

// key is an object's URI, with which the server is found.
func (p *secretPlace) key(key string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", p.bucket, key, p.s3.Endpoint, s3test.Region)
}

// says runs the program, whatever comes of it, and looks at what it says.
func (p *secretPlace) says(args ...string) outcome {
	p.t.Helper()
	o := p.engine(args...)
	sees(p.t, "engine "+strings.Join(args, " "), o.stdout+o.stderr)
	return o
}

// background starts a node whose log goes to its data folder.
func (p *secretPlace) background(name string, args ...string) nodeProcess {
	p.t.Helper()
	var n nodeProcess
	o := p.must(append([]string{"start", "-o", "json", "--log-level", "debug", "--data-dir", name}, args...)...)
	if err := json.Unmarshal([]byte(o.stdout), &n); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.engine("stop", "--data-dir", name, "--grace", "0s") })
	return n
}

// watchArguments looks at the arguments of all processes until stop is called. The test's own servers are started with secrets.
func watchArguments(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
			if err != nil {
				t.Error(err)
			}
			for _, line := range lines {
				text, err := os.ReadFile(line)
				if err == nil && !bytes.Contains(text, []byte("versitygw")) {
					sees(t, line, string(text))
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// searchFolders looks at every file below folders.
func searchFolders(t *testing.T, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			sees(t, path, string(content))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// servedOf looks at everything that a head says of its jobs and nodes, over gRPC, HTTP, and with the program.
func (p *secretPlace) servedOf(head nodeProcess) {
	p.t.Helper()
	t := p.t
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, head.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	look := func(what string, m proto.Message) { sees(t, what, prototext.Format(m)) }
	all, err := c.Jobs(ctx, 0)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d jobs, %v", len(all), err)
	}
	for _, job := range all {
		look("ListJobs", job)
		id := job.GetJobId()
		handle := c.Job(id)
		status, err := handle.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		look("GetJob", status)
		if err := handle.Logs(ctx, client.LogOptions{}, func(line *enginev1.LogLine) error { look("ReadJobLog", line); return nil }); err != nil {
			t.Error(err)
		}
		if err := handle.Watch(ctx, func(job *enginev1.Job) error { look("WatchJob", job); return errEnough }); err != nil && !errors.Is(err, errEnough) {
			t.Error(err)
		}
		for _, args := range [][]string{{"job", "show", id}, {"job", "show", id, "-o", "json"}, {"job", "status", id, "-o", "json"}, {"job", "logs", id}} {
			p.says(append(args, "--address", head.Address)...)
		}
	}
	for _, args := range [][]string{
		{"job", "list", "-o", "json"}, {"list", "tasks", "-o", "json"}, {"list", "nodes", "-o", "json"}, {"summary", "tasks"}, {"status"}, {"timeline", "-f", p.path("trace.json")},
	} {
		p.says(append(args, "--address", head.Address)...)
	}
	for _, path := range []string{"/metrics", "/healthz", "/api/v1/jobs"} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, head.Web+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			t.Error(err)
		}
		sees(t, path, string(body))
	}
}

// TestSecretsStaySecret plants secrets in every credential field of jobs that succeed and fail, on a head and a worker of their own, and looks for
// them in all that the cluster writes, shows, and is started with. The jobs need them, so they are not merely lost.
func TestSecretsStaySecret(t *testing.T) {
	testenv.Full(t)
	p := newSecretPlace(t)
	stop := watchArguments(t)
	defer stop()
	nodes := *p.place
	nodes.env = append(slices.Clone(p.env), "NODE_PASSWORD="+canaryNode)
	p.place = &nodes
	allow := "--allow-secret=env:NODE_PASSWORD"
	head := p.background("head", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", allow)
	p.background("worker", "--address", head.Address, "--num-cpus", "2", allow)
	submitter := nodes
	submitter.env = append(slices.Clone(submitter.env), "NODE_PASSWORD_HERE=x", "CLIENT_PASSWORD="+canaryPassword)
	p.place = &submitter
	p.wineFiles(4, 250)

	job := func(name, format string, args ...any) string { return p.write(name, fmt.Sprintf(format, args...)) }
	// ends submits a job and returns how it ended, or how it was refused.
	ends := func(path string, more ...string) outcome {
		t.Helper()
		return p.says(append([]string{"submit", path, "--address", head.Address, "--wait", "-o", "json"}, more...)...)
	}
	succeeds := func(path string, more ...string) {
		t.Helper()
		if o := ends(path, more...); o.code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", path, o.code, o.stdout, o.stderr)
		}
	}
	fails := func(says, path string, more ...string) {
		t.Helper()
		if o := ends(path, more...); o.code == 0 || !strings.Contains(o.stdout+o.stderr, says) {
			t.Errorf("%s: exit code %d, without %q\n%s%s", path, o.code, says, o.stdout, o.stderr)
		}
	}
	s3 := func(name string) string {
		return fmt.Sprintf("{access_key_id: engine-test, secret_access_key: %q}", "${secret:file:"+p.secret(name)+"}")
	}
	csv := `{csv: {paths: ["data/*.csv"], delimiter: ";"}}`

	// A variable of the client, into a table; a file of the client by another name, out of it and into a bucket; and back from there, beside which
	// a row is rejected into the bucket.
	succeeds(job("in.yaml", "source: %s\nsink: {postgres: {url: %q, table: wine, password: \"${secret:env:CLIENT_PASSWORD}\"}}\n", csv, p.url()))
	if rows := p.postgres.Texts(t, p.database, "SELECT count(*) FROM wine"); rows[0] != "1000" {
		t.Errorf("the table has %v", rows)
	}
	succeeds(job("out.yaml", "source: {postgres: {url: %q, table: wine, password: \"${secret:pg}\", partition_column: quality, splits: 3}}\nsink: {csv: {path: %q}, s3: %s}\n",
		p.url(), p.key("wine"), s3("s3")), "--secret", "pg=file:"+p.secret("pg"))
	if err := os.WriteFile(p.s3.Path(p.bucket, "bad.csv"), []byte("a,b\n1,2\n1,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	succeeds(job("back.yaml", "source: {csv: {paths: [%q]}, s3: %s}\nsink: {parquet: {path: back}}\non_bad_row: {action: dead_letter, path: %q, s3: %s}\n",
		p.key("bad.csv"), s3("s3"), p.key("rejects"), s3("s3")), "--submission-id", "back")
	// It has succeeded, and its secrets are gone; whether its inputs have changed is looked at with those of this submission.
	succeeds(p.path("back.yaml"), "--submission-id", "back")
	succeeds(job("fitted.yaml", "source: {csv: {paths: [%q]}, s3: %s}\nsteps: [{scale: {columns: [{name: alcohol}]}}]\nsink: {parquet: {path: fitted}}\n", p.key("wine/"), s3("s3")))

	// Wrong ones, refused before the job is accepted.
	fails("password authentication failed", job("wrong.yaml", "source: %s\nsink: {postgres: {url: %q, table: t, password: \"${secret:pg}\"}}\n", csv, p.url()), "--secret", "pg=file:"+p.secret("wrong"))
	fails("password authentication failed", job("wrong-out.yaml", "source: {postgres: {url: %q, table: wine, password: \"${secret:pg}\"}}\nsink: {csv: {path: x}}\n", p.url()), "--secret", "pg=file:"+p.secret("wrong"))
	fails("SignatureDoesNotMatch", job("wrong-key.yaml", "source: {csv: {paths: [%q]}, s3: %s}\nsink: {csv: {path: y}}\n", p.key("bad.csv"), s3("key")))
	fails("", job("token.yaml", "source: {csv: {paths: [%q]}, s3: {access_key_id: %q, secret_access_key: %q, session_token: %q}}\nsink: {csv: {path: z}}\n",
		p.key("bad.csv"), "${secret:id}", "${secret:file:"+p.secret("key")+"}", "${secret:token}"), "--secret", "id=file:"+p.secret("key"), "--secret", "token=file:"+p.secret("token"))
	// The node's own, which is wrong as well, and one that it may not read.
	fails("password authentication failed", job("node.yaml", "source: %s\nsink: {postgres: {url: %q, table: t, password: \"${secret:file:/run/none}\"}}\n", csv, p.url()), "--set", "sink.postgres.password=${secret:env:NODE_PASSWORD}")
	fails("may not read it for jobs", job("denied.yaml", "source: %s\nsink: {postgres: {url: %q, table: t, password: \"${secret:env:NOT_ALLOWED}\"}}\n", csv, p.url()))
	// Fails in the middle, and keeps its secret until somebody resumes or forgets it.
	fails("division by zero", job("middle.yaml", "source: {postgres: {url: %q, password: \"${secret:pg}\", query: \"select 1/(900-g) as x, g from generate_series(1, 1000) as g\"}}\nsink: {csv: {path: middle}}\n", p.url()),
		"--secret", "pg=file:"+p.secret("pg"), "--submission-id", "middle")
	if o := p.says("job", "resume", "middle", "--address", head.Address, "--secret", "pg=file:"+p.secret("wrong")); o.code != 0 {
		t.Errorf("resume: exit code %d\n%s", o.code, o.stderr)
	}
	if o := p.says("job", "wait", "middle", "--address", head.Address); o.code != 1 || !strings.Contains(o.stdout+o.stderr, "password authentication failed") {
		t.Errorf("resumed with a wrong password: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	// A server that repeats the password: what leaves the worker is free of it.
	p.postgres.Exec(t, p.database, "CREATE TABLE told (x text); INSERT INTO told VALUES ('"+canaryPassword+"'); ALTER TABLE told OWNER TO "+guardedUser)
	fails("***", job("told.yaml", "source: {postgres: {url: %q, password: \"${secret:pg}\", query: \"select x::int as x from told\"}}\nsink: {csv: {path: told}}\n", p.url()), "--secret", "pg=file:"+p.secret("pg"))
	// Mistakes of whoever writes the job file, or the command.
	for says, args := range map[string][]string{
		`"pg" does not come with the job (did you mean "pgs"?)`: {"submit", p.path("out.yaml"), "--secret", "pgs=file:" + p.secret("pg")},
		"lets others read":             {"submit", p.path("out.yaml"), "--secret", "pg=file:" + p.write("open", "x")},
		"never written out":            {"submit", p.path("in.yaml"), "--set", "sink.postgres.password=literal"},
		"expected pg=env:VARIABLE":     {"submit", p.path("out.yaml"), "--secret", "pg=literal"},
		"the variable is not set":      {"submit", p.path("out.yaml"), "--secret", "pg=env:NOT_SET_ANYWHERE"},
		"named.yaml:1:7: name: a sec":  {"submit", p.write("named.yaml", "name: ${secret:pg}\n")},
		"--allow-secret: PASSWORD: ex": {"start", "--head", "--allow-secret", "PASSWORD"},
	} {
		if says == "lets others read" {
			if err := os.Chmod(p.path("open"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if o := p.says(append(args, "--address", head.Address)...); args[0] != "start" && (o.code != 2 && o.code != 5 || !strings.Contains(o.stderr, says)) {
			t.Errorf("%v: exit code %d, without %q\n%s", args, o.code, says, o.stderr)
		}
	}
	// In one process.
	if o := p.says("run", p.path("in.yaml"), "--set", "sink.postgres.table=run"); o.code != 0 {
		t.Errorf("run: exit code %d\n%s", o.code, o.stderr)
	}
	if o := p.says("run", p.path("wrong.yaml"), "--secret", "pg=file:"+p.secret("wrong")); o.code == 0 {
		t.Error("run with a wrong password")
	}

	p.servedOf(head)
	stop()
	searchFolders(t, p.dir, p.s3.Folder)
	if key, err := os.Stat(p.path("head", "secrets.key")); err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", key, err)
	}
}

// TestKeyOfSecretsIsLost: after a restart without the key the job that needs a secret fails by name, and can be resumed with it; the head serves
// everything else. A key that others may read is refused.
func TestKeyOfSecretsIsLost(t *testing.T) {
	testenv.Full(t)
	p := newSecretPlace(t)
	p.wineFiles(1, 100)
	start := func() nodeProcess {
		return p.background("head", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "1")
	}
	head := start()
	job := p.write("job.yaml", fmt.Sprintf("source: {postgres: {url: %q, query: \"select 1/(x-1) as y from once\", columns: [], password: \"${secret:pg}\"}}\nsink: {csv: {path: out}}\n", p.url()))
	p.postgres.Exec(t, p.database, "CREATE TABLE once (x int); INSERT INTO once VALUES (1); ALTER TABLE once OWNER TO "+guardedUser)
	if o := p.says("submit", job, "--address", head.Address, "--wait", "--submission-id", "a", "--secret", "pg=file:"+p.secret("pg")); o.code != 1 || !strings.Contains(o.stderr, "division by zero") {
		t.Fatalf("exit code %d\n%s", o.code, o.stderr)
	}
	p.postgres.Exec(t, p.database, "UPDATE once SET x = 2")
	p.must("stop", "--data-dir", "head")
	key := p.path("head", "secrets.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if o := p.says("start", "--head", "--port", "0", "--web-port", "0", "--data-dir", "head"); o.code == 0 || !strings.Contains(o.stderr, "0644 lets others read") {
		t.Errorf("a key that is open: exit code %d\n%s", o.code, o.stderr)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	head = start()
	if o := p.says("job", "resume", "a", "--address", head.Address); o.code == 0 || !strings.Contains(o.stderr, "secrets are encrypted under key") {
		t.Errorf("resumed without the key: exit code %d\n%s", o.code, o.stderr)
	}
	p.must("submit", p.wineJob("wine.yaml", "wine", "error"), "--address", head.Address, "--wait")
	if o := p.says("job", "resume", "a", "--address", head.Address, "--secret", "pg=file:"+p.secret("pg")); o.code != 0 {
		t.Fatalf("resumed with the secret: exit code %d\n%s", o.code, o.stderr)
	}
	p.must("job", "wait", "a", "--address", head.Address)
	searchFolders(t, p.dir)
}
