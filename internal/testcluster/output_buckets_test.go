package testcluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// objects returns what a bucket holds below a key, by the rest of their keys, without names that readers skip.
func (s *store) objects(key string) map[string][]byte {
	s.t.Helper()
	found := map[string][]byte{}
	for info, err := range s.bucket.List(s.t.Context(), key+"/") {
		if err != nil {
			s.t.Fatal(err)
		}
		name := strings.TrimPrefix(info.Key, key+"/")
		if strings.HasPrefix(name, "_") {
			continue
		}
		r, _, err := s.bucket.Get(s.t.Context(), info.Key, 0, -1)
		if err != nil {
			s.t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			s.t.Fatal(err)
		}
		found[name] = data
	}
	return found
}

func (s *store) names(key string) (names []string) {
	s.t.Helper()
	for name := range s.objects(key) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// numbers writes rows of files of CSV and returns their paths.
func numbers(t *testing.T, rows, files int) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for f := range files {
		var b bytes.Buffer
		b.WriteString("id,name\n")
		for i := range rows / files {
			n := f*rows/files + i
			fmt.Fprintf(&b, "%d,n%d\n", n, n%7)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.csv", f))
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// TestWriteBuckets writes every format to a folder and to a bucket on a real server, and wants the same there.
func TestWriteBuckets(t *testing.T) {
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 20_000})
	inputs := numbers(t, 20_000, 3)
	sinks := map[string]func(path, mode string) *enginev1.Sink{
		"csv": func(path, mode string) *enginev1.Sink {
			return &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: path, Mode: mode}}}
		},
		"json": func(path, mode string) *enginev1.Sink {
			return &enginev1.Sink{Kind: &enginev1.Sink_Json{Json: &enginev1.JsonSink{Path: path, Mode: mode}}}
		},
		"arrow": func(path, mode string) *enginev1.Sink {
			return &enginev1.Sink{Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path, Mode: mode}}}
		},
		"parquet": func(path, mode string) *enginev1.Sink {
			return &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path, Mode: mode}}}
		},
	}
	sources := map[string]func(paths ...string) *enginev1.Source{"csv": csvSource, "json": jsonSource, "arrow": arrowSource, "parquet": parquetSource}
	for format, sink := range sinks {
		t.Run(format, func(t *testing.T) {
			if format == "json" || format == "arrow" {
				testenv.Full(t) // They are written as CSV is, with notes.
			}
			dir := t.TempDir()
			want := wait(t, submit(t, c, convert(csvSource(inputs...), sink(filepath.Join(dir, "files"), ""))), engine.JobSucceeded)
			key := "out/" + format
			first := submit(t, c, convert(csvSource(inputs...), sink(s.path(key), "")))
			have := wait(t, first, engine.JobSucceeded)
			if have.RowsRead != want.RowsRead || have.RowsWritten != want.RowsWritten || have.BytesWritten == 0 || len(have.Outputs) != len(want.Outputs) {
				t.Errorf("%+v, of files %+v", have, want)
			}
			if first := "s3://" + s.name + "/" + key + "/part-"; !strings.HasPrefix(have.Outputs[0], first) {
				t.Errorf("the outputs are %v", have.Outputs)
			}
			rows := func(path string) string {
				t.Helper()
				out := filepath.Join(t.TempDir(), "copy")
				wait(t, submit(t, c, convert(sources[format](path), csvSink(out))), engine.JobSucceeded)
				return onlyPart(t, out)
			}
			once := rows(filepath.Join(dir, "files"))
			if rows(s.path(key)) != once {
				t.Fatal("the rows are not those of the files")
			}

			again := convert(csvSource(inputs...), sink(s.path(key), ""))
			_, err := c.Client().Submit(t.Context(), again)
			if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), string(first.ID())) || !strings.Contains(err.Error(), "mode: append") {
				t.Errorf("mode error over the output of a job: %v", err)
			}
			before := s.names(key)
			wait(t, submit(t, c, convert(csvSource(inputs...), sink(s.path(key), "append"))), engine.JobSucceeded)
			if names := s.names(key); len(names) != 2*len(before) {
				t.Errorf("appended: %v", names)
			}
			over := submit(t, c, convert(csvSource(inputs...), sink(s.path(key), "overwrite")))
			wait(t, over, engine.JobSucceeded)
			if rows(s.path(key)) != once {
				t.Error("the rows of the overwritten output are others")
			}
			for _, name := range s.names(key) {
				if folder.JobOf(name) != over.ID() {
					t.Errorf("%s is still there", name)
				}
			}
			said := false
			if err := over.Logs(withTimeout(t), client.LogOptions{}, func(line *enginev1.LogLine) error {
				said = said || strings.Contains(line.GetMessage(), "until then readers see both")
				return nil
			}); err != nil || !said {
				t.Errorf("the log does not say what overwriting means here: %v", err)
			}
			if left := s.server.Uploads(t, s.name); len(left) > 0 {
				t.Errorf("uploads stay: %v", left)
			}
		})
	}
}

// TestWriteSeveralToBuckets lets each task write several objects, which appear together, and rejected rows beside them.
func TestWriteSeveralToBuckets(t *testing.T) {
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000})
	inputs := numbers(t, 2000, 2)
	spec := convert(csvSource(inputs...), parquetSink(s.path("parts"), "name"))
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	names := s.names("parts")
	if len(names) != len(result.Outputs) || !strings.HasPrefix(names[0], "name=n0/part-") {
		t.Errorf("%d outputs, objects %v", len(result.Outputs), names)
	}
	if rows := tableOf(t, c, s.path("parts")); len(rows) != 2000 || len(slices.Compact(rows)) != 2000 {
		t.Errorf("%d rows", len(rows))
	}

	spec = convert(csvSource(inputs...), nil)
	spec.Steps = []*enginev1.Step{{Kind: &enginev1.Step_Split{Split: &enginev1.SplitStep{Parts: map[string]float64{"train": 4, "validation": 1}}}}}
	spec.Sinks = map[string]*enginev1.Sink{"train": parquetSink(s.path("train")), "validation": parquetSink(s.path("validation"))}
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	all := slices.Concat(tableOf(t, c, s.path("train")), tableOf(t, c, s.path("validation")))
	slices.Sort(all)
	if len(all) != 2000 || len(slices.Compact(all)) != 2000 {
		t.Errorf("%d rows in both", len(all))
	}
	if left := s.server.Uploads(t, s.name); len(left) > 0 {
		t.Errorf("uploads stay: %v", left)
	}
}

// TestOutputBucketErrors names what is wrong with where a job is to write, before anything is written.
func TestOutputBucketErrors(t *testing.T) {
	s := newStore(t)
	s.put("in/a.csv", []byte("id\n1\n"))
	s.put("notes/mine.txt", []byte("x"))
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	sink := func(path, mode string) *enginev1.Sink {
		return &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: path, Mode: mode}}}
	}
	for name, test := range map[string]struct {
		path, mode string
		kind       engine.Kind
		says       []string
	}{
		"whole bucket":    {"s3://" + s.name + s.settings, "", engine.KindInvalidArgument, []string{"sink.csv.path", "a whole bucket cannot be an output folder"}},
		"missing bucket":  {"s3://no-such-bucket/out" + s.settings, "", engine.KindNotFound, []string{"the bucket no-such-bucket does not exist"}},
		"unknown setting": {s.path("out") + "&regoin=x", "", engine.KindInvalidArgument, []string{"sink.csv.path", `unknown setting "regoin"`}},
		"own input":       {s.path("in"), "append", engine.KindConflict, []string{"mode append would add the output to the job's own input", "in/a.csv"}},
		"stranger":        {s.path("notes"), "overwrite", engine.KindConflict, []string{"mine.txt", "a prefix of its own"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := failure(t, c, convert(csvSource(s.path("in/a.csv")), sink(test.path, test.mode)))
			if engine.KindOf(err) != test.kind {
				t.Errorf("%v: %v", engine.KindOf(err), err)
			}
			for _, text := range test.says {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in: %v", text, err)
				}
			}
		})
	}
	if got := s.names("in"); !slices.Equal(got, []string{"a.csv"}) {
		t.Errorf("the input is %v", got)
	}
}

// TestBucketsKnowWhatJobsHaveRead appends what is new to a bucket, and takes over what is there.
func TestBucketsKnowWhatJobsHaveRead(t *testing.T) {
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	inputs := numbers(t, 300, 3)
	for i, path := range inputs[:2] {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.put(fmt.Sprintf("in/%d.csv", i), content)
	}
	spec := func(out, mode, cache string) *enginev1.JobSpec {
		job := convert(csvSource(s.path("in/")), &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: s.path(out), Mode: mode}}})
		job.Cache = cache
		return job
	}
	night := func(read, known int64) {
		t.Helper()
		result := wait(t, submit(t, c, spec("out", "append", ""), client.WithOnlyNew()), engine.JobSucceeded)
		if result.InputsRead != read || result.InputsKnown != known || result.RowsWritten != 100*read {
			t.Errorf("%+v, want %d read and %d known", result, read, known)
		}
	}
	night(2, 0)
	night(0, 2)
	content, err := os.ReadFile(inputs[2])
	if err != nil {
		t.Fatal(err)
	}
	s.put("in/2.csv", content)
	night(1, 2)
	if names := s.names("out"); len(names) != 3 {
		t.Errorf("the output is %v", names)
	}
	// The same content put again is the same input, by its ETag.
	s.put("in/2.csv", content)
	night(0, 3)
	s.put("in/2.csv", append(content, "7,n7\n"...))
	result := wait(t, submit(t, c, spec("out", "append", ""), client.WithOnlyNew()), engine.JobFailed)
	wantRefused(t, result.Err, "changed  s3://"+s.name+"/in/2.csv: ", " bytes, ETag ", " -> ")

	first := wait(t, submit(t, c, spec("cached", "", "1h")), engine.JobSucceeded)
	if again := wait(t, submit(t, c, spec("cached", "", "1h")), engine.JobSucceeded); again.CachedFrom != first.JobID || !slices.Equal(again.Outputs, first.Outputs) {
		t.Errorf("%+v, want the output of %+v", again, first)
	}
	s.put("in/3.csv", content)
	if _, err := c.Client().Submit(withTimeout(t), spec("cached", "", "1h")); engine.KindOf(err) != engine.KindConflict {
		t.Errorf("with another input: %v", err)
	}
}
