// Package timeline remembers what tasks did on which node, the latest ones, and tells it in Chrome's trace format, which Perfetto reads.
// Ring is a plain value without a clock or a lock.
package timeline

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/f708428e/engine"
)

// Event is one attempt at a task that has ended.
type Event struct {
	// Name is the task's, or its job's.
	Name string
	// Node is where it ran.
	Node engine.NodeID
	// Job and Index name a job's task, ID that of a client; the other is zero.
	Job   engine.JobID
	Index int
	ID    engine.TaskUID
	// State is how it ended.
	State engine.TaskState
	// Attempt counts from 1; 0 is not known.
	Attempt int
	// Begin is when it began, by the node's clock if it is a client's, Took how long it ran.
	Begin time.Time
	Took  time.Duration
}

// DefaultSize is how many events a ring holds: some 6 MB.
const DefaultSize = 50_000

// Ring holds the latest events. A nil ring holds none. It is not safe for concurrent use.
type Ring struct {
	size   int
	events []Event
	next   int
}

// NewRing makes a ring of so many events; zero means DefaultSize. It takes memory as it fills.
func NewRing(size int) *Ring { return &Ring{size: cmp.Or(size, DefaultSize)} }

// Add remembers an event, in the oldest one's place if the ring is full.
func (r *Ring) Add(e Event) {
	switch {
	case r == nil:
	case len(r.events) < r.size:
		r.events = append(r.events, e)
	default:
		r.events[r.next] = e
		r.next = (r.next + 1) % r.size
	}
}

// Events returns a copy of the events of a job, or of all if it is empty, in order of their ends.
func (r *Ring) Events(job engine.JobID) []Event {
	if r == nil {
		return nil
	}
	events := make([]Event, 0, len(r.events))
	for i := range r.events {
		if e := &r.events[(r.next+i)%len(r.events)]; job == "" || e.Job == job {
			events = append(events, *e)
		}
	}
	return events
}

// traceEvent is an event of the trace format; times are in microseconds.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Begin    float64        `json:"ts"`
	Took     *float64       `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// Trace returns the events as objects of the trace format, a JSON text each: a process for each node, and in it a thread for each task that
// ran there at the same time as others. Times count from the first beginning, because viewers keep them as floating-point numbers.
func Trace(events []Event) ([]string, error) {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b Event) int { return a.Begin.Compare(b.Begin) })
	nodes := map[engine.NodeID]int{}
	for i := range events {
		nodes[events[i].Node] = 0
	}
	var trace []string
	add := func(e traceEvent) error {
		text, err := json.Marshal(e)
		if err != nil {
			return engine.Errorf(engine.KindInternal, "tell timeline", e.Name, "%w", err)
		}
		trace = append(trace, string(text))
		return nil
	}
	for i, node := range slices.Sorted(maps.Keys(nodes)) {
		nodes[node] = i + 1
		if err := add(traceEvent{Name: "process_name", Phase: "M", Process: i + 1, Args: map[string]any{"name": string(node)}}); err != nil {
			return nil, err
		}
	}
	slots := map[engine.NodeID][]time.Time{} // When each is free again.
	for i := range events {
		e := &events[i]
		slot := slices.IndexFunc(slots[e.Node], func(free time.Time) bool { return !e.Begin.Before(free) })
		if slot < 0 {
			slot = len(slots[e.Node])
			slots[e.Node] = append(slots[e.Node], time.Time{})
			thread := traceEvent{Name: "thread_name", Phase: "M", Process: nodes[e.Node], Thread: slot + 1, Args: map[string]any{"name": "slot " + strconv.Itoa(slot+1)}}
			if err := add(thread); err != nil {
				return nil, err
			}
		}
		slots[e.Node][slot] = e.Begin.Add(e.Took)
		if err := add(e.trace(events[0].Begin, nodes[e.Node], slot+1)); err != nil {
			return nil, err
		}
	}
	return trace, nil
}

func (e *Event) trace(zero time.Time, process, thread int) traceEvent {
	took := micros(e.Took)
	args := map[string]any{"state": string(e.State), "begin": e.Begin.UTC().Format(time.RFC3339Nano)}
	if e.Attempt > 0 {
		args["attempt"] = e.Attempt
	}
	category := "task"
	if e.Job != "" {
		category = "job"
		args["job"], args["task"] = string(e.Job), e.Index
	} else {
		args["task"] = e.ID.String()
	}
	return traceEvent{
		Name: e.Name, Category: category, Phase: "X", Begin: micros(e.Begin.Sub(zero)), Took: &took, Process: process, Thread: thread, Args: args,
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
