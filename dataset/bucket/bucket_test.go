package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset/bucket"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	job   engine.JobID = "20261123-142330-7f3k2m9q"
	other engine.JobID = "20251123-142330-aaaaaaaa"
)

// large is more than one part of a multipart upload.
const large = 6 << 20

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newOutput returns the output of a job in a bucket.
func newOutput(t testing.TB, b blob.Bucket, mode folder.Mode, job engine.JobID) bucket.Output {
	t.Helper()
	o, err := bucket.New(b.URI(), mode, job, func(context.Context) (blob.Bucket, error) { return b, nil })
	must(t, err)
	return o
}

// each runs a test on every kind of bucket.
func each(t *testing.T, test func(t *testing.T, b blob.Bucket)) {
	t.Run("memory", func(t *testing.T) { test(t, memory.New("bucket").Prefixed("out")) })
	t.Run("s3", func(t *testing.T) {
		server := s3test.Start(t)
		test(t, openS3(t, "s3://"+server.Bucket(t)+"/deep/out", server.Options()))
	})
}

func openS3(t testing.TB, uri string, options s3.Options) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), uri, options)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

// keys lists a bucket.
func keys(t testing.TB, b blob.Bucket) (all []string) {
	t.Helper()
	for info, err := range b.List(context.WithoutCancel(t.Context()), "") {
		must(t, err)
		all = append(all, info.Key)
	}
	return all
}

// claimKey is there while a job is at work.
const claimKey = "_engine/claim.json"

// wantKeys compares what a bucket holds, apart from a claim.
func wantKeys(t testing.TB, b blob.Bucket, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := slices.DeleteFunc(keys(t, b), func(key string) bool { return key == claimKey })
	if !slices.Equal(got, want) {
		t.Fatalf("the bucket holds %q, want %q", got, want)
	}
}

func content(t testing.TB, b blob.Bucket, key string) string {
	t.Helper()
	r, _, err := b.Get(t.Context(), key, 0, -1)
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	return string(data)
}

// publish writes a part with the content given.
func publish(t testing.TB, o bucket.Output, sequence int, attempt, content string) (folder.Part, bool) {
	t.Helper()
	name := folder.PartName(o.Job, sequence, ".parquet")
	s, err := o.Create(t.Context(), name, attempt)
	must(t, err)
	if _, err := s.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if n := s.SizeBytes(); n != int64(len(content)) {
		t.Errorf("SizeBytes %d, want %d", n, len(content))
	}
	won, err := s.Publish(t.Context())
	must(t, err)
	return folder.Part{Name: name, Rows: 10, SizeBytes: int64(len(content))}, won
}

// run writes a whole output.
func run(t testing.TB, o bucket.Output, contents ...string) {
	t.Helper()
	must(t, o.Check(t.Context()))
	must(t, o.Prepare(t.Context()))
	var parts []folder.Part
	for i, content := range contents {
		part, won := publish(t, o, i, "1", content)
		if !won {
			t.Fatal("lost")
		}
		parts = append(parts, part)
	}
	must(t, o.Complete(t.Context(), folder.Success{Parts: parts, Digests: folder.Digests{Job: "sha256:1"}}))
}

func TestNew(t *testing.T) {
	for uri, want := range map[string]string{"s3://bucket": "a whole bucket", "s3://bucket/": "a whole bucket", "/folder": "s3://bucket/prefix"} {
		_, err := bucket.New(uri, folder.ModeError, job, nil)
		blobtest.WantKind(t, err, engine.KindInvalidArgument, want)
	}
	_, err := bucket.New("s3://b/p", "replace", job, nil)
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "mode")
	_, err = bucket.New("s3://b/p", folder.ModeError, "a/b", nil)
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "job id")
	o, err := bucket.New("s3://b/p/q/", folder.ModeAppend, job, nil)
	if err != nil || o.Target() != "s3://b/p/q" || o.Work() != "s3://b/p/q" || o.PartPath("year=2026/x") != "s3://b/p/q/year=2026/x" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		t.Run(string(mode), func(t *testing.T) {
			each(t, func(t *testing.T, b blob.Bucket) {
				run(t, newOutput(t, b, folder.ModeError, other), "old")
				o := newOutput(t, b, mode, job)
				oldPart, first, second := folder.PartName(other, 0, ".parquet"), folder.PartName(job, 0, ".parquet"), folder.PartName(job, 1, ".parquet")
				if mode == folder.ModeError {
					blobtest.WantKind(t, o.Check(t.Context()), engine.KindConflict, string(other), "10 rows", "overwrite", "append")
					blobtest.WantKind(t, o.Prepare(t.Context()), engine.KindConflict)
					wantKeys(t, b, folder.SuccessName, oldPart)
					return
				}
				must(t, o.Check(t.Context()))
				must(t, o.Prepare(t.Context()))
				must(t, o.Prepare(t.Context()))
				wantKeys(t, b, oldPart)
				a, _ := publish(t, o, 0, "1", "a")
				z, _ := publish(t, o, 1, "1", strings.Repeat("b", large))
				wantKeys(t, b, oldPart, first, second)
				must(t, o.Abandon(t.Context()))
				success := folder.Success{Parts: []folder.Part{a, z}}
				must(t, o.Complete(t.Context(), success))
				must(t, o.Complete(t.Context(), success))
				must(t, o.Prepare(t.Context()))
				if mode == folder.ModeAppend {
					wantKeys(t, b, folder.SuccessName, oldPart, first, second)
				} else {
					wantKeys(t, b, folder.SuccessName, first, second)
				}
				if text := content(t, b, folder.SuccessName); !strings.Contains(text, string(job)) || !strings.Contains(text, `"rows": 20`) {
					t.Errorf("_SUCCESS is %s", text)
				}
				published, err := o.Published(t.Context())
				if err != nil || len(published) != 2 || published[1].SizeBytes != large {
					t.Errorf("Published %+v, %v", published, err)
				}
			})
		})
	}
}

func TestCheck(t *testing.T) {
	check := func(mode folder.Mode, keys ...string) error {
		b := memory.New("bucket").Prefixed("out")
		for _, key := range keys {
			blobtest.Put(t, b, key, []byte("x"))
		}
		return newOutput(t, b, mode, job).Check(t.Context())
	}
	mine, theirs := folder.PartName(job, 3, ".parquet"), folder.PartName(other, 3, ".parquet")
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		must(t, check(mode))
		must(t, check(mode, ".keep", mine, "year=2026/"+mine, "_engine/"+mine+".json", "_engine/"+folder.RecordName("task", job, 7)))
	}
	for _, key := range []string{"data.csv", "deep/a.parquet", "_delta_log/0.json"} {
		must(t, check(folder.ModeAppend, key))
		blobtest.WantKind(t, check(folder.ModeOverwrite, key), engine.KindConflict, key, "a prefix of its own")
		err := check(folder.ModeError, key)
		blobtest.WantKind(t, err, engine.KindConflict, key, "mode: append")
		if strings.Contains(err.Error(), "overwrite") {
			t.Errorf("%q advises what is refused", err)
		}
	}
	blobtest.WantKind(t, check(folder.ModeError, theirs), engine.KindConflict, "engine job resume "+string(other))
	blobtest.WantKind(t, check(folder.ModeError, "year=2026/"+theirs), engine.KindConflict, "engine job resume "+string(other))
	blobtest.WantKind(t, check(folder.ModeError, folder.SuccessName), engine.KindConflict, folder.SuccessName)
	must(t, check(folder.ModeOverwrite, theirs, "year=2026/a.parquet", "_engine/"+theirs+".json", folder.SuccessName, "_metadata", ".x"))
}

func TestConflicts(t *testing.T) {
	of := func(mode folder.Mode) bucket.Output {
		o, err := bucket.New("s3://b/data", mode, job, nil)
		must(t, err)
		return o
	}
	inputs := []string{"/local/a.csv", "s3://b/data2/a.csv", "s3://b/data/in/a.csv?region=eu-west-1"}
	blobtest.WantKind(t, of(folder.ModeOverwrite).Conflicts("input", inputs), engine.KindConflict, "own input", "in/a.csv")
	blobtest.WantKind(t, of(folder.ModeOverwrite).Conflicts("model", inputs), engine.KindConflict, "own model")
	blobtest.WantKind(t, of(folder.ModeAppend).Conflicts("input", inputs), engine.KindConflict, "add the output")
	must(t, of(folder.ModeAppend).Conflicts("model", inputs))
	must(t, of(folder.ModeError).Conflicts("input", inputs))
	must(t, of(folder.ModeOverwrite).Conflicts("input", inputs[:2]))
}

func TestPublish(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		o := newOutput(t, b, folder.ModeError, job)
		must(t, o.Prepare(t.Context()))
		for i, size := range []int{4, large} {
			part := folder.PartName(job, i, ".parquet")
			slow, err := o.Create(t.Context(), part, "slow")
			must(t, err)
			_, err = slow.Write([]byte(strings.Repeat("slow", size/4)))
			must(t, err)
			if _, err := o.Look(t.Context(), part); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it can be seen: %v", err)
			}
			if _, won := publish(t, o, i, "fast", "fast"); !won {
				t.Error("the first attempt lost")
			}
			if won, err := slow.Publish(t.Context()); won || err != nil {
				t.Errorf("the second attempt: %v, %v", won, err)
			}
			must(t, slow.Discard())
			if _, err := slow.Write(nil); err == nil {
				t.Error("Write after Publish succeeds")
			}
			if got := content(t, b, part); got != "fast" {
				t.Errorf("%q", got)
			}
			if size, err := o.Look(t.Context(), part); size != 4 || err != nil {
				t.Error(size, err)
			}
		}
		given, err := o.Create(t.Context(), folder.PartName(job, 2, ".parquet"), "1")
		must(t, err)
		_, err = given.Write(make([]byte, large))
		must(t, err)
		must(t, given.Discard())
		must(t, given.Discard())
		late, err := o.Create(t.Context(), folder.PartName(job, 3, ".parquet"), "1")
		must(t, err)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = late.Publish(ended)
		blobtest.WantKind(t, err, engine.KindCanceled)
		wantKeys(t, b, folder.PartName(job, 0, ".parquet"), folder.PartName(job, 1, ".parquet"))
		for _, bad := range []string{"x.parquet", folder.PartName(other, 0, ".parquet"), "a/" + folder.PartName(job, 0, ".parquet")} {
			if _, err := o.Begin(t.Context(), bad, "1"); err == nil {
				t.Errorf("Begin(%q) succeeds", bad)
			}
		}
		if _, err := o.Create(t.Context(), folder.PartName(job, 0, ".parquet"), "a/b"); err == nil {
			t.Error("an attempt a/b is accepted")
		}
	})
}

// TestRace lets many attempts at one part publish at the same time, with notes: the note is the winner's.
func TestRace(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		o := newOutput(t, b, folder.ModeError, job)
		must(t, o.Prepare(t.Context()))
		part := folder.PartName(job, 0, ".csv")
		var group sync.WaitGroup
		wins := make(chan string, 8)
		for i := range 8 {
			group.Go(func() {
				attempt := fmt.Sprint(i)
				s, err := o.Create(t.Context(), part, attempt)
				if err != nil {
					t.Error(err)
					return
				}
				s.Keep(map[string]string{"attempt": attempt})
				_, _ = io.WriteString(s, attempt)
				won, err := s.Publish(t.Context())
				if err != nil {
					t.Error(err)
				}
				if won {
					wins <- attempt
				}
			})
		}
		group.Wait()
		close(wins)
		winners := slices.Collect(func(yield func(string) bool) {
			for w := range wins {
				yield(w)
			}
		})
		if len(winners) != 1 || content(t, b, part) != winners[0] {
			t.Fatalf("winners %v, content %q", winners, content(t, b, part))
		}
		kept, err := o.Metadata(t.Context(), part, nil)
		if err != nil || !maps.Equal(kept, map[string]string{"attempt": winners[0]}) {
			t.Errorf("%v, %v", kept, err)
		}
		wantKeys(t, b, part, "_engine/"+part+".json")
	})
}

func TestMetadataInside(t *testing.T) {
	b := memory.New("bucket").Prefixed("out")
	o := newOutput(t, b, folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	part, _ := publish(t, o, 0, "1", "the content")
	kept, err := o.Metadata(t.Context(), part.Name, func(path string) (map[string]string, error) {
		data, err := os.ReadFile(path)
		return map[string]string{"content": string(data)}, err
	})
	if err != nil || kept["content"] != "the content" {
		t.Errorf("%v, %v", kept, err)
	}
	_, err = o.Metadata(t.Context(), part.Name, nil)
	blobtest.WantKind(t, err, engine.KindCorrupt, "has no note")
}

func TestCompleteRefusals(t *testing.T) {
	for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
		t.Run(string(mode), func(t *testing.T) {
			b := memory.New("bucket").Prefixed("out")
			o := newOutput(t, b, mode, job)
			must(t, o.Prepare(t.Context()))
			part, _ := publish(t, o, 0, "1", "abc")
			complete := func(parts ...folder.Part) error { return o.Complete(t.Context(), folder.Success{Parts: parts}) }
			blobtest.WantKind(t, complete(part, folder.Part{Name: folder.PartName(job, 1, ".parquet")}), engine.KindCorrupt, "is gone")
			part.SizeBytes++
			blobtest.WantKind(t, complete(part), engine.KindCorrupt, "3 bytes")
			part.SizeBytes--
			blobtest.WantKind(t, complete(), engine.KindConflict, part.Name)
			blobtest.WantKind(t, complete(part, part), engine.KindInternal, "twice")
			blobtest.Put(t, b, "alien.csv", nil)
			err := complete(part)
			if mode == folder.ModeAppend {
				must(t, err)
				return
			}
			blobtest.WantKind(t, err, engine.KindConflict, "alien.csv")
			wantKeys(t, b, "alien.csv", part.Name)
		})
	}
}

// TestSeal writes two parts of one task that appear together.
func TestSeal(t *testing.T) {
	each(t, func(t *testing.T, b blob.Bucket) {
		o := newOutput(t, b, folder.ModeError, job)
		must(t, o.Prepare(t.Context()))
		record := folder.RecordName(folder.TaskRecord, job, 0)
		if _, err := o.Record(t.Context(), record); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		seal := func(partition, attempt, content string) folder.Sealed {
			d, err := o.Begin(t.Context(), partition+folder.PartName(job, 0, ".csv"), attempt)
			must(t, err)
			_, err = d.Write([]byte(content))
			must(t, err)
			sealed, err := d.Seal(t.Context())
			must(t, err)
			must(t, d.Discard())
			return sealed
		}
		first, second, loser := seal("year=2025/", "1", "a"), seal("year=2026/", "1", strings.Repeat("b", large)), seal("year=2026/", "2", "other")
		wantKeys(t, b)
		if won, err := o.PutRecord(t.Context(), record, "1", []byte("first")); !won || err != nil {
			t.Fatal(won, err)
		}
		if won, err := o.PutRecord(t.Context(), record, "2", []byte("second")); won || err != nil {
			t.Fatal(won, err)
		}
		must(t, o.Unseal(t.Context(), loser))
		if got, err := o.Record(t.Context(), record); string(got) != "first" || err != nil {
			t.Error(string(got), err)
		}
		if names, err := o.Records(t.Context(), folder.TaskRecord); err != nil || !slices.Equal(names, []string{record}) {
			t.Error(names, err)
		}
		for range 2 {
			for _, sealed := range []folder.Sealed{first, second} {
				must(t, o.Reveal(t.Context(), sealed))
			}
		}
		wantKeys(t, b, first.Part, second.Part, "_engine/"+record)
		must(t, o.Abandon(t.Context()))
		wantKeys(t, b, first.Part, second.Part, "_engine/"+record)
		must(t, o.Complete(t.Context(), folder.Success{Parts: []folder.Part{{Name: first.Part, SizeBytes: 1}, {Name: second.Part, SizeBytes: large}}}))

		lost := seal("year=2027/", "3", "x")
		must(t, o.Abandon(t.Context()))
		blobtest.WantKind(t, o.Reveal(t.Context(), lost), engine.KindCorrupt, "held back", "new id")
		taken := seal("year=2028/", "3", "x")
		blobtest.Put(t, b, taken.Part, []byte("another"))
		blobtest.WantKind(t, o.Reveal(t.Context(), taken), engine.KindConflict, "another object")
	})
}
