package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/worker"
)

// plainReader only tells when it is closed.
type plainReader struct {
	dataset.Reader
	name   string
	closed chan string
}

func (r *plainReader) Read(context.Context) (arrow.Record, error) {
	return nil, errors.New("not in this test")
}
func (r *plainReader) Close() error { r.closed <- r.name; return nil }

// TestSplitsAhead opens splits in buckets before they are asked for, one at a time and in order, and no others.
func TestSplitsAhead(t *testing.T) {
	for _, path := range []string{"s3://b/%d.csv", "/folder/%d.csv", "postgres://h/db %d"} {
		t.Run(path, func(t *testing.T) {
			var splits []dataset.Split
			for i := range 4 {
				file := dataset.File{Path: fmt.Sprintf(path, i), SizeBytes: 10}
				if path[0] == 'p' {
					file.SizeBytes = 0 // of what a database has nobody knows
				}
				splits = append(splits, dataset.Split{File: file})
			}
			opened, closed := make(chan string, 10), make(chan string, 10)
			bad := errors.New("gone")
			take, end := worker.SplitReader(t.Context(), splits, func(_ context.Context, split dataset.Split) (dataset.Reader, error) {
				opened <- split.File.Path
				if split == splits[3] {
					return nil, bad
				}
				return &plainReader{name: split.File.Path, closed: closed}, nil
			})
			want := func(c chan string, name string) {
				t.Helper()
				select {
				case got := <-c:
					if got != name {
						t.Fatalf("got %s, want %s", got, name)
					}
				case <-time.After(time.Minute):
					t.Fatalf("%s does not come", name)
				}
			}
			remote := path[0] == 's'
			for i := range 3 {
				split, reader, more, err := take()
				if err != nil || !more || split != splits[i] {
					t.Fatal(split, more, err)
				}
				if i == 0 || !remote {
					want(opened, splits[i].File.Path)
				}
				if remote {
					want(opened, splits[i+1].File.Path)
				}
				if len(opened) > 0 {
					t.Fatal("more than one split is opened ahead")
				}
				if err := reader.Close(); err != nil {
					t.Fatal(err)
				}
				want(closed, splits[i].File.Path)
			}
			if _, _, _, err := take(); !errors.Is(err, bad) {
				t.Errorf("got %v", err)
			}
			if _, _, more, err := take(); more || err != nil {
				t.Error(more, err)
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSplitsAheadGivenUp closes what was opened ahead of an attempt that fails, and what is still being opened.
func TestSplitsAheadGivenUp(t *testing.T) {
	splits := []dataset.Split{{File: dataset.File{Path: "s3://b/0", SizeBytes: 1}}, {File: dataset.File{Path: "s3://b/1", SizeBytes: 1}}}
	for _, slow := range []bool{false, true} {
		closed := make(chan string, 2)
		take, end := worker.SplitReader(t.Context(), splits, func(ctx context.Context, split dataset.Split) (dataset.Reader, error) {
			if slow && split == splits[1] {
				<-ctx.Done() // as a request would
				return nil, ctx.Err()
			}
			return &plainReader{name: split.File.Path, closed: closed}, nil
		})
		if _, _, _, err := take(); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		close(closed)
		var got []string
		for name := range closed {
			got = append(got, name)
		}
		if want := []string{"s3://b/1"}; !slow && !slices.Equal(got, want) || slow && len(got) > 0 {
			t.Errorf("slow %v: closed were %q", slow, got)
		}
	}
}
