package testcluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// sized sets the file_size of a sink.
func sized(sink *enginev1.Sink, size string) *enginev1.Sink {
	switch kind := sink.GetKind().(type) {
	case *enginev1.Sink_Parquet:
		kind.Parquet.FileSize = size
	case *enginev1.Sink_Csv:
		kind.Csv.FileSize = size
	case *enginev1.Sink_Json:
		kind.Json.FileSize = size
	case *enginev1.Sink_Arrow:
		kind.Arrow.FileSize = size
	}
	return sink
}

var rolledPattern = regexp.MustCompile(`(?:^|/)part-.*-(\d{6})-c(\d{6})\.[a-z]+$`)

// rolledSizes are the sizes of files with file_size, for each task and each folder that it writes, in the order of their numbers.
func rolledSizes(t *testing.T, root string, files []string) map[string][]int64 {
	t.Helper()
	sizes := map[string][]int64{}
	for _, name := range files { // sorted
		found := rolledPattern.FindStringSubmatch(name)
		if found == nil {
			t.Fatalf("a file is named %s", name)
		}
		of := filepath.Dir(name) + "/" + found[1]
		if want := fmt.Sprintf("%06d", len(sizes[of])); found[2] != want {
			t.Errorf("%s should have number %s", name, want)
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		sizes[of] = append(sizes[of], info.Size())
	}
	return sizes
}

// TestFileSize writes every format in files of a size, and finds the rows in order, and no file much larger or, but for a task's last, smaller.
func TestFileSize(t *testing.T) {
	const most = 8 << 10
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 60_000})
	inputs := numbers(t, 30_000, 2)
	want := make([]string, 30_000)
	for i := range want {
		want[i] = fmt.Sprintf("id=%d name=n%d ", i, i%7)
	}
	for format := range formats {
		t.Run(format, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			job := convert(csvSource(inputs...), sized(sinkOf(format, out, "", 0), "8KiB"))
			result := wait(t, submit(t, c, job), engine.JobSucceeded)
			files := filesIn(t, out)
			var written int64
			tasks := rolledSizes(t, out, files)
			for task, sizes := range tasks {
				for i, size := range sizes {
					written += size
					// What is in no page of Parquet yet is counted before it is compressed.
					if size > most*5/4 || i < len(sizes)-1 && size < most && format != "parquet" || i < len(sizes)-1 && size < most/8 {
						t.Errorf("task %s, file %d of %d: %d bytes", task, i, len(sizes), size)
					}
				}
			}
			if len(tasks) < 6 || len(files) < 3*len(tasks) {
				t.Errorf("%d files of %d tasks", len(files), len(tasks))
			}
			if result.RowsWritten != 30_000 || result.BytesWritten != written || len(result.Outputs) != len(files) {
				t.Errorf("%d rows, %d bytes of %d, %d outputs of %d", result.RowsWritten, result.BytesWritten, written, len(result.Outputs), len(files))
			}
			if success, err := folder.ReadSuccess(out); err != nil || success.Rows != 30_000 || len(success.Parts) != len(files) {
				t.Errorf("_SUCCESS: %d rows in %d parts, %v", success.Rows, len(success.Parts), err)
			}
			copied := filepath.Join(t.TempDir(), "copy")
			back := convert(sourceOf(format, out), parquetSink(copied))
			back.Sink.GetParquet().Files = 1
			wait(t, submit(t, c, back), engine.JobSucceeded)
			if got := rowsOf(t, readOutput(t, copied)); !slices.Equal(got, want) {
				t.Errorf("%d rows: %s", len(got), firstDifference(got, want))
			}
		})
	}
}

// TestFileSizeOfPartitions gives every folder files of the size, here and in a bucket.
func TestFileSizeOfPartitions(t *testing.T) {
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 100_000})
	inputs := numbers(t, 30_000, 1)
	out := filepath.Join(t.TempDir(), "out")
	wait(t, submit(t, c, convert(csvSource(inputs...), sized(parquetSink(out, "name"), "4KiB"))), engine.JobSucceeded)
	files := filesIn(t, out)
	folders := map[string]int{}
	for of, sizes := range rolledSizes(t, out, files) {
		folders[filepath.Dir(of)] += len(sizes)
		if slices.Max(sizes) > 5<<10 {
			t.Errorf("%s: files of %v bytes", of, sizes)
		}
	}
	for name, n := range folders {
		if n < 4 || !strings.HasPrefix(name, "name=n") {
			t.Errorf("folder %s has %d files", name, n)
		}
	}
	if len(folders) != 7 {
		t.Errorf("folders %v", folders)
	}
	rows := tableOf(t, c, out)
	if len(slices.Compact(slices.Clone(rows))) != 30_000 || len(rows) != 30_000 {
		t.Errorf("%d rows", len(rows))
	}

	spec := convert(csvSource(inputs...), sized(parquetSink(s.path("out"), "name"), "4KiB"))
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	if names := s.names("out"); len(names) != len(files) || len(result.Outputs) != len(files) {
		t.Errorf("%d files in the bucket, %d outputs; %d in the folder", len(names), len(result.Outputs), len(files))
	}
	if got := tableOf(t, c, s.path("out")); !slices.Equal(got, rows) {
		t.Errorf("of the bucket: %s", firstDifference(got, rows))
	}
	if success, err := folder.ReadSuccess(out); err != nil || success.Rows != 30_000 {
		t.Errorf("%+v, %v", success, err)
	}
}

// TestFileSizeGathersSmallFiles reads many small files in one task, up to the size.
func TestFileSizeGathersSmallFiles(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	inputs := numbers(t, 4000, 40) // of some 900 bytes
	out := filepath.Join(t.TempDir(), "out")
	wait(t, submit(t, c, convert(csvSource(inputs...), sized(sinkOf("csv", out, "", 0), "10KB"))), engine.JobSucceeded)
	files := filesIn(t, out)
	if tasks := rolledSizes(t, out, files); len(tasks) < 3 || len(tasks) > 6 || len(files) > 2*len(tasks) {
		t.Errorf("%d tasks wrote %v", len(tasks), files)
	}
	// Another job takes the place of these files, which it knows to be a job's.
	again := convert(csvSource(inputs...), sized(sinkOf("csv", out, "", 0), "10KB"))
	again.Sink.GetCsv().Mode = "overwrite"
	job := submit(t, c, again)
	wait(t, job, engine.JobSucceeded)
	for _, name := range filesIn(t, out) {
		if folder.JobOf(name) != job.ID() {
			t.Errorf("%s is there", name)
		}
	}
	// And one that fails leaves nothing that cannot be discarded.
	failing := convert(csvSource(inputs...), sized(sinkOf("csv", out+"-2", "", 0), "2KB"))
	failing.Steps = []*enginev1.Step{withStep(map[string]string{"bad": "1 // (id - 3999)"})}
	job = submit(t, c, failing)
	wait(t, job, engine.JobFailed)
	if files := filesIn(t, out+"-2"); len(files) == 0 {
		t.Error("no task was done")
	}
	if _, err := job.Forget(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if files := filesIn(t, out+"-2"); len(files) > 0 {
		t.Errorf("%v stay", files)
	}
}

// TestFileSizeErrors refuses what is no size, and what does not go together.
func TestFileSizeErrors(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	for _, test := range []struct {
		size  string
		files int32
		want  string
	}{
		{"large", 0, `sink.parquet.file_size: "large" is not a size`},
		{"100", 0, `sink.parquet.file_size: "100" must be at least 1KiB`},
		{"0", 0, `sink.parquet.file_size: "0" must be at least 1KiB`},
		{"256MB", 3, "sink.parquet: set either files or file_size"},
	} {
		spec := convert(csvSource(numbers(t, 10, 1)...), sized(sinkOf("parquet", filepath.Join(t.TempDir(), "out"), "", test.files), test.size))
		if _, err := c.Client().Submit(t.Context(), spec); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v", test.size, err)
		}
	}
}

// TestFileSizeIsTooSmall writes more files than a task may have, and leaves none of them.
func TestFileSizeIsTooSmall(t *testing.T) {
	testenv.Full(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	out := filepath.Join(t.TempDir(), "out")
	big := convert(csvSource(numbers(t, 500_000, 1)...), sized(sinkOf("json", out, "", 0), "1KiB"))
	result := wait(t, submit(t, c, big), engine.JobFailed)
	if engine.KindOf(result.Err) != engine.KindData || !strings.Contains(fmt.Sprint(result.Err), "a task writes more than 10000 files") {
		t.Errorf("too many files: %v", result.Err)
	}
	if files := filesIn(t, out); len(files) > 0 {
		t.Errorf("%d files stay", len(files))
	}
}
