package tasks

import (
	"slices"
	"time"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The bounds of what one report says.
const (
	maxReported = 10_000
	// maxReportedBytes bounds the values of outputs in one message, and maxKeptBytes those in all outcomes together: those of outcomes
	// that were told longest ago go first. What has no value any more is in the object store all the same.
	maxReportedBytes = 8 << 20
	maxKeptBytes     = 64 << 20
)

// telling is what the head is told of outcomes.
type telling struct {
	// kept counts the outcomes that are not released, bytes the values in them.
	kept  int
	bytes int64
	// unsent are those that the stream has not carried, in order; told those that it has, as long as they have values.
	unsent, told []*task
	// sent is the last report that carried outcomes, acknowledged the last one that the head has taken in.
	sent, acknowledged uint64
}

func valueBytes(outcome *enginev1.TaskOutcome) (bytes int64) {
	for _, output := range outcome.GetOutputs() {
		bytes += int64(len(output.GetValue()))
	}
	return bytes
}

func (t *telling) add(r *task) {
	t.kept++
	t.bytes += valueBytes(r.outcome)
	t.unsent = append(t.unsent, r)
}

// forget takes an outcome out of the account; the lists pass over it later.
func (t *telling) forget(r *task) {
	if r.outcome == nil {
		return
	}
	t.kept--
	t.bytes -= valueBytes(r.outcome)
	r.outcome = nil
}

func (t *telling) acknowledge(sequence uint64) {
	t.acknowledged = max(t.acknowledged, sequence)
}

// heard reports whether the head has heard of everything.
func (t *telling) heard() bool { return len(t.unsent) == 0 && t.acknowledged >= t.sent }

// Report adds to a report what there is to say of tasks: everything in the first of a stream; later the outcomes that the stream has
// not carried, and in a report that is due by its time what runs for long. The message must be sent, or its stream given up.
func (t *Tasks) Report(message *enginev1.SyncRequest, due bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if message.GetSequence() == 1 {
		t.beginStreamLocked(message, now)
		return
	}
	t.telling.strip()
	bytes := int64(0)
	taken := 0
	for _, r := range t.telling.unsent {
		if len(message.Outcomes) >= maxReported || bytes > maxReportedBytes {
			t.config.Wake()
			break
		}
		taken++
		if r.outcome == nil {
			continue // Nobody wants it any more.
		}
		message.Outcomes = append(message.Outcomes, r.outcome)
		if size := valueBytes(r.outcome); size > 0 {
			bytes += size
			t.telling.told = append(t.telling.told, r)
		}
	}
	t.telling.unsent = slices.Delete(t.telling.unsent, 0, taken)
	if len(message.GetOutcomes()) > 0 {
		t.telling.sent = message.GetSequence()
	}
	if due {
		for r := t.running.oldest; r != nil && now.Sub(r.began) >= t.interval; r = r.after {
			if r.phase == running {
				message.HeldTasks = append(message.HeldTasks, r.held(now, false))
			}
		}
	}
}

// strip takes the values out of outcomes that were told while there are too many bytes. The messages that carried them were sent.
func (t *telling) strip() {
	for len(t.told) > 0 && (t.bytes > maxKeptBytes || t.told[0].outcome == nil) {
		if outcome := t.told[0].outcome; outcome != nil {
			t.bytes -= valueBytes(outcome)
			t.told[0].outcome = withoutValues(outcome)
		}
		t.told[0] = nil
		t.told = t.told[1:]
	}
	if len(t.told) > 2*t.kept+maxReported { // One at the front that stays must not keep those behind it.
		t.told = slices.DeleteFunc(t.told, func(r *task) bool { return r.outcome == nil })
	}
}

// withoutValues is an outcome whose outputs must be got from the store.
func withoutValues(outcome *enginev1.TaskOutcome) *enginev1.TaskOutcome {
	bare := &enginev1.TaskOutcome{
		TaskId: outcome.GetTaskId(), State: outcome.GetState(), Error: outcome.GetError(), NodeId: outcome.GetNodeId(), Attempts: outcome.GetAttempts(),
		RunNanos: outcome.GetRunNanos(), StartUnixNanos: outcome.GetStartUnixNanos(), Epoch: outcome.GetEpoch(),
	}
	for _, output := range outcome.GetOutputs() {
		bare.Outputs = append(bare.Outputs, &enginev1.TaskOutput{SizeBytes: output.GetSizeBytes(), Rows: output.GetRows(), Checkpoint: output.GetCheckpoint()})
	}
	return bare
}

// beginStreamLocked tells a new stream everything. Templates have other numbers on it.
func (t *Tasks) beginStreamLocked(message *enginev1.SyncRequest, now time.Time) {
	clear(t.templates)
	t.telling.unsent, t.telling.told = nil, nil
	t.telling.sent, t.telling.acknowledged = 0, 0
	var ends []*task
	for _, r := range t.tasks {
		if r.phase == ended {
			ends = append(ends, r)
		} else {
			message.HeldTasks = append(message.HeldTasks, r.held(now, true))
		}
	}
	slices.SortFunc(ends, func(a, b *task) int { return a.outcomeOrder(b) })
	bytes := int64(0)
	for _, r := range ends {
		switch size := valueBytes(r.outcome); {
		case size == 0:
		case bytes+size > maxReportedBytes:
			t.telling.bytes -= size
			r.outcome = withoutValues(r.outcome)
		default:
			bytes += size
			t.telling.told = append(t.telling.told, r)
		}
		message.Outcomes = append(message.Outcomes, r.outcome)
		message.OutcomeSessions = append(message.OutcomeSessions, r.session)
	}
	if len(ends) > 0 {
		t.telling.sent = 1
	}
}

// outcomeOrder sorts by when tasks were granted.
func (t *task) outcomeOrder(other *task) int {
	if t.order < other.order {
		return -1
	}
	return 1
}
