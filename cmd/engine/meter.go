package main

import (
	"fmt"
	"time"

	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// meter turns a job's counts into rates. It asks no clock and is not safe for concurrent use.
type meter struct {
	samples []sample
	last    reading
}

type sample struct {
	at          time.Time
	rows, bytes int64
}

// reading is what a person wants to know of a running job.
type reading struct {
	state                   string
	reason                  string
	rows                    int64
	rowsPerSecond           float64
	splitsDone, splitsTotal int64
	bytesDone, bytesTotal   int64
	// left is how long the rest takes at the present rate; negative if that is not known.
	left time.Duration
	// lost counts the attempts that had to be made again.
	lost int64
}

// window is over how long rates are taken: long enough to be calm, short enough to follow a worker that leaves.
const window = 15 * time.Second

// observe takes in the job as it is now. The counts of a job go back when an attempt is lost, and the rates begin anew then.
func (m *meter) observe(now time.Time, job *enginev1.Job) reading {
	p := job.GetProgress()
	// What is read ahead of a model is not done yet.
	s := sample{now, p.GetRowsProcessed(), int64(float64(p.GetBytesRead()) * float64(p.GetRowsProcessed()) / float64(max(1, p.GetRowsRead())))}
	if n := len(m.samples); n > 0 && (s.rows < m.samples[n-1].rows || s.bytes < m.samples[n-1].bytes) {
		m.samples = m.samples[:0]
	}
	m.samples = append(m.samples, s)
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= window {
		m.samples = m.samples[1:]
	}
	r := reading{
		state: string(rpc.JobStateFromProto(job.GetState())), reason: job.GetReason(), rows: s.rows, splitsDone: p.GetSplitsDone(), splitsTotal: p.GetSplitsTotal(),
		bytesDone: min(s.bytes, p.GetBytesTotal()), bytesTotal: p.GetBytesTotal(), left: -1, lost: p.GetAttemptsLost(),
	}
	first := m.samples[0]
	if seconds := now.Sub(first.at).Seconds(); seconds > 0 {
		r.rowsPerSecond = float64(s.rows-first.rows) / seconds
		if rate := float64(s.bytes-first.bytes) / seconds; rate > 0 && r.bytesTotal > 0 {
			const longest = 1000 * 24 * time.Hour
			r.left = time.Duration(min(float64(r.bytesTotal-r.bytesDone)/rate*float64(time.Second), float64(longest)))
		}
	}
	m.last = r
	return r
}

// percent is the part of the input that is processed; all of it is not done until the last split is.
func (r reading) percent() int {
	if r.bytesTotal == 0 {
		return 0
	}
	return int(float64(r.bytesDone) / float64(r.bytesTotal) * 100)
}

// String is the reading in one line.
func (r reading) String() string {
	if r.rows == 0 && r.splitsDone == 0 {
		text := r.state
		if r.splitsTotal > 0 {
			text += ", " + plural(r.splitsTotal, "split")
		}
		return text + r.waits()
	}
	text := fmt.Sprintf("%s %d%%, %s, %s/s, %s/%s splits", r.state, r.percent(), plural(r.rows, "row"), plural(int64(r.rowsPerSecond), "row"),
		count(r.splitsDone), count(r.splitsTotal))
	if r.left >= 0 && r.splitsDone < r.splitsTotal {
		text += ", " + span(r.left) + " left"
	}
	if r.lost > 0 {
		text += ", " + plural(r.lost, "attempt") + " lost"
	}
	return text + r.waits()
}

// waits says why nothing of the job runs; the head gives no reason while something does.
func (r reading) waits() string {
	if r.reason == "" {
		return ""
	}
	return ", " + r.reason
}
