package joblog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/f708428e/engine/head/joblog"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func line(text string) *enginev1.LogLine {
	return &enginev1.LogLine{Origin: "head", Level: "INFO", Message: text}
}

func fromWorker(sequence uint64, text string) *enginev1.WorkerLogLine {
	return &enginev1.WorkerLogLine{WorkerSequence: sequence, Line: &enginev1.LogLine{Origin: "w", Message: text, Attributes: map[string]string{"task": "1"}}}
}

func read(t *testing.T, book *joblog.Book, after uint64) []string {
	t.Helper()
	var got []string
	err := book.Read(context.Background(), "job", after, nil, func(lines []*enginev1.LogLine) error {
		for _, l := range lines {
			if len(l.GetAttributes()) > 1 {
				t.Errorf("attributes %v show what is internal", l.GetAttributes())
			}
			got = append(got, fmt.Sprint(l.GetSequence(), " ", l.GetMessage()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("lines %q, want %q", got, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinesAreKeptOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	book := joblog.New(dir)
	check(t, book.Append("job", line("a"), line("b")))
	check(t, book.AppendFromWorker("job", fromWorker(1, "c"), fromWorker(2, "d")))
	check(t, book.AppendFromWorker("job", fromWorker(1, "c"), fromWorker(2, "d"), fromWorker(3, "e"))) // Sent again after a lost reply.
	want := []string{"1 a", "2 b", "3 c", "4 d", "5 e"}
	expect(t, read(t, book, 0), want...)
	expect(t, read(t, book, 3), want[3:]...)

	// A new head knows where each worker stood, and drops a line that was cut short.
	path := filepath.Join(dir, "job.jsonl")
	text, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, append(text, `{"sequence":"6","mess`...), 0o600))
	again := joblog.New(dir)
	check(t, again.AppendFromWorker("job", fromWorker(3, "e"), fromWorker(4, "f")))
	expect(t, read(t, again, 0), append(want, "6 f")...)
	check(t, again.Remove("job"))
	expect(t, read(t, again, 0))
}

func TestFollowersSeeEveryLine(t *testing.T) {
	book := joblog.New(t.TempDir())
	ended := make(chan struct{})
	const count = 500
	result := make(chan error, 1)
	var got []uint64
	go func() {
		result <- book.Read(context.Background(), "job", 0, ended, func(lines []*enginev1.LogLine) error {
			for _, l := range lines {
				got = append(got, l.GetSequence())
			}
			return nil
		})
	}()
	for i := range count {
		check(t, book.Append("job", line(fmt.Sprint(i))))
	}
	close(ended)
	select {
	case err := <-result:
		check(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the follower did not end with the job")
	}
	if len(got) != count {
		t.Fatalf("follower saw %d lines, want %d", len(got), count)
	}
	for i, sequence := range got {
		if sequence != uint64(i)+1 {
			t.Fatalf("line %d has sequence %d", i, sequence)
		}
	}
}
