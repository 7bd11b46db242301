package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func runningJob(rows, bytes int64) *enginev1.Job {
	return &enginev1.Job{JobId: "j", State: enginev1.JobState_JOB_STATE_RUNNING, Progress: &enginev1.JobProgress{
		RowsRead: rows, RowsProcessed: rows, BytesRead: bytes, BytesTotal: 10_000, SplitsTotal: 4, SplitsDone: rows / 250,
	}}
}

func TestMeter(t *testing.T) {
	m := &meter{}
	pending := &enginev1.Job{State: enginev1.JobState_JOB_STATE_PENDING, Reason: "waits for a worker"}
	for _, step := range []struct {
		after time.Duration
		job   *enginev1.Job
		want  string
	}{
		{0, pending, "PENDING, waits for a worker"},
		{time.Second, runningJob(0, 0), "RUNNING, 4 splits"},
		{2 * time.Second, runningJob(200, 2000), "RUNNING 20%, 200 rows, 100 rows/s, 0/4 splits, 8.00s left"},
		{4 * time.Second, runningJob(400, 4000), "RUNNING 40%, 400 rows, 100 rows/s, 1/4 splits, 6.00s left"},
		// A lost attempt takes its rows with it.
		{5 * time.Second, runningJob(300, 3000), "RUNNING 30%, 300 rows, 0 rows/s, 1/4 splits"},
		{6 * time.Second, runningJob(301, 3010), "RUNNING 30%, 301 rows, 1 row/s, 1/4 splits, 11m39s left"},
		// The oldest samples fall out of the window.
		{26 * time.Second, runningJob(501, 5010), "RUNNING 50%, 501 rows, 10 rows/s, 2/4 splits, 49.9s left"},
		{27 * time.Second, runningJob(1000, 10_000), "RUNNING 100%, 1,000 rows, 33 rows/s, 4/4 splits"},
	} {
		if got := m.observe(testNow.Add(step.after), step.job).String(); got != step.want {
			t.Errorf("after %v: %s, want %s", step.after, got, step.want)
		}
	}
}

// TestMeterBehindTheReader shows what the model is through with, not what is read ahead of it.
func TestMeterBehindTheReader(t *testing.T) {
	job := runningJob(500, 10_000)
	job.Progress.RowsProcessed = 50
	m := &meter{}
	m.observe(testNow, job)
	job.Progress.RowsProcessed = 125
	if got, want := m.observe(testNow.Add(5*time.Second), job).String(), "RUNNING 25%, 125 rows, 15 rows/s, 2/4 splits, 25.0s left"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := &lines{out: &out}
	l.tick(testNow)
	l.show(testNow, &enginev1.Job{JobId: "j", State: enginev1.JobState_JOB_STATE_PENDING})
	for i := range 25 {
		now := testNow.Add(time.Duration(i+1) * time.Second)
		if i < 5 {
			job := runningJob(int64(i)*100, int64(i)*1000)
			job.SourceColumns = []*enginev1.ColumnInfo{{Name: "id", Type: "int64"}, {Name: "a text", Type: "string"}}
			l.show(now, job)
		}
		l.tick(now)
	}
	l.close()
	const want = `job j: PENDING
job j: RUNNING, 4 splits
job j: columns id int64, a text string
job j: RUNNING 40%, 400 rows, 36 rows/s, 1/4 splits, 16.5s left
job j: RUNNING 40%, 400 rows, 0 rows/s, 1/4 splits
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}

// TestBar checks that the bar ends in every state, and that logs go past it.
func TestBar(t *testing.T) {
	for _, shows := range []int{0, 1, 20} {
		var out bytes.Buffer
		logs := &logWriter{out: &out}
		const width = 60
		b := newBar(&out, func() int { return width }, logs)
		for i := range shows {
			b.show(testNow.Add(time.Duration(i)*time.Second), runningJob(int64(i), int64(i)*500))
			b.tick(testNow.Add(time.Duration(i) * time.Second))
			fmt.Fprintf(logs, "log line %d\n", i)
		}
		b.close()
		fmt.Fprintln(logs, "after")
		if !strings.HasSuffix(out.String(), "after\n") || strings.Count(out.String(), "log line ") != shows {
			t.Errorf("%d: %q", shows, out.String())
		}
		// What stands on the screen between two clearings is one line that does not wrap.
		drawn := 0
		for _, piece := range strings.Split(out.String(), clearLine) {
			if strings.HasPrefix(piece, "[") {
				drawn++
				if line, _, _ := strings.Cut(piece, "\n"); len(line) >= width {
					t.Errorf("line %q is too long", line)
				}
			}
		}
		if drawn < shows {
			t.Errorf("the bar was drawn %d times after %d changes: %q", drawn, shows, out.String())
		}
	}
}

func TestText(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := count(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "0s", 420 * time.Millisecond: "0.42s", 12340 * time.Millisecond: "12.3s", 185 * time.Second: "3m05s", 134 * time.Minute: "2h14m", 76 * time.Hour: "3d04h",
		59999 * time.Millisecond: "59.9s",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestExplain(t *testing.T) {
	inner := engine.Errorf(engine.KindData, "read csv", "a.csv:3", "no").WithHint("inner")
	for _, test := range []struct {
		err         error
		text, hints string
	}{
		{inner, "read csv: a.csv:3: no", "inner"},
		{engine.WrapError("run", "j", inner), "run: j: read csv: a.csv:3: no", "inner"},
		{errors.Join(nil, inner), "read csv: a.csv:3: no", "inner"},
		{&engine.Error{Kind: engine.KindConflict, Op: "x", Hint: "outer", Err: inner}, "x: read csv: a.csv:3: no", "outer|inner"},
		{&engine.Error{Kind: engine.KindConflict}, "conflict", ""},
		{context.Canceled, "context canceled", ""},
	} {
		text, hints := explain(test.err)
		if text != test.text || strings.Join(hints, "|") != test.hints {
			t.Errorf("%v: %q, %q", test.err, text, hints)
		}
	}
}
