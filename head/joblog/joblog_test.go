package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	case <-time.After(2 * time.Minute):
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

func TestDamagedLinesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	book := joblog.New(dir)
	check(t, book.AppendFromWorker("job", fromWorker(1, "a"), fromWorker(2, "b"), fromWorker(3, "c"), fromWorker(4, "d")))
	path := filepath.Join(dir, "job.jsonl")
	text, err := os.ReadFile(path)
	check(t, err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines[1][0], lines[3][0] = 0, 0
	check(t, os.WriteFile(path, bytes.Join(lines, nil), 0o600))

	again := joblog.New(dir)
	expect(t, read(t, again, 0), "1 a", "3 c")
	// The last line's number is not given a second time, and what was kept before the damage is still known.
	check(t, again.AppendFromWorker("job", fromWorker(3, "c"), fromWorker(5, "e")))
	expect(t, read(t, again, 0), "1 a", "3 c", "5 e")
	if n := again.UnreadableLines(); n != 2 {
		t.Fatalf("%d unreadable lines, want 2", n)
	}
}

func TestLogThatVanishesBeginsAgain(t *testing.T) {
	dir := t.TempDir()
	book := joblog.New(dir)
	check(t, book.Append("job", line("a"), line("b")))
	check(t, os.Remove(filepath.Join(dir, "job.jsonl")))
	expect(t, read(t, book, 0))
	check(t, book.Append("job", line("c")))
	expect(t, read(t, book, 0), "3 c")
}

func TestTroubleIsOneJobsAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bad.jsonl")
	check(t, os.Mkdir(path, 0o700)) // A file that cannot be opened.
	book := joblog.New(dir)
	if err := book.Append("bad", line("lost")); err == nil {
		t.Fatal("a line was written to a folder")
	}
	check(t, book.Append("job", line("a")))
	expect(t, read(t, book, 0), "1 a")
	check(t, os.Remove(path))
	check(t, book.Append("bad", line("b")))
}

func TestLineThatIsCutShortCostsItselfAlone(t *testing.T) {
	dir := t.TempDir()
	book := joblog.New(dir)
	check(t, book.Append("job", line("a")))
	path := filepath.Join(dir, "job.jsonl")
	info, err := os.Stat(path)
	check(t, err)
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = uint64(info.Size()) + 10
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	err = book.AppendFromWorker("job", fromWorker(1, "b"))
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	if !errors.Is(err, unix.EFBIG) {
		t.Fatalf("error %v, want that of the disk", err)
	}
	check(t, book.AppendFromWorker("job", fromWorker(1, "b")))
	expect(t, read(t, book, 0), "1 a", "2 b")
}

func TestRemovedLogIsGone(t *testing.T) {
	dir := t.TempDir()
	check(t, joblog.New(dir).Remove("never")) // Nothing to remove, and nothing made for it.
	check(t, os.WriteFile(filepath.Join(dir, "job.jsonl"), []byte("no line\n"), 0o600))
	book := joblog.New(dir)
	check(t, book.Remove("job"))
	if n := book.UnreadableLines(); n != 0 {
		t.Fatal("the log was read before it was removed")
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 0 {
		t.Fatalf("%v are left", left)
	}
}

func TestNumbersBeginAboveThoseOfAnotherHead(t *testing.T) {
	book := joblog.New(t.TempDir())
	check(t, book.Append("job", line("a")))
	book.Begin(100)
	check(t, book.Append("job", line("b")))
	check(t, book.AppendFromWorker("job", fromWorker(1, "c")))
	book.Begin(50) // What has been numbered is not numbered again.
	check(t, book.Append("job", line("d")))
	expect(t, read(t, book, 0), "1 a", "101 b", "102 c", "103 d")
}

// To read a log that is not there, as that of a job of another head, makes none.
func TestReadingMakesNoLog(t *testing.T) {
	dir := t.TempDir()
	book := joblog.New(dir)
	expect(t, read(t, book, 0))
	if ids, err := book.Jobs(); err != nil || len(ids) != 0 {
		t.Fatalf("%v, %v", ids, err)
	}
	// A reader that follows sees the first line, though there was no file when it began.
	seen, end, done := make(chan string, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- book.Read(t.Context(), "job", 0, end, func(lines []*enginev1.LogLine) error {
			seen <- lines[0].GetMessage()
			return nil
		})
	}()
	if err := book.Append("job", line("first")); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "first" {
		t.Errorf("%q", got)
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ids, err := book.Jobs(); err != nil || len(ids) != 1 || ids[0] != "job" {
		t.Fatalf("%v, %v", ids, err)
	}
}
