package timeline_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/timeline"
)

var start = time.Unix(1_700_000_000, 0)

func event(node engine.NodeID, begin, took time.Duration) timeline.Event {
	return timeline.Event{Name: "score", Node: node, State: engine.TaskSucceeded, Attempt: 1, Begin: start.Add(begin), Took: took}
}

// object is an event as a viewer reads it.
type object struct {
	Name     string         `json:"name"`
	Phase    string         `json:"ph"`
	Begin    float64        `json:"ts"`
	Took     float64        `json:"dur"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args"`
	Category string         `json:"cat"`
}

func trace(t *testing.T, events []timeline.Event) (all, tasks []object) {
	t.Helper()
	texts, err := timeline.Trace(events)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		var o object
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if all = append(all, o); o.Phase == "X" {
			tasks = append(tasks, o)
		}
	}
	return all, tasks
}

func TestTraceHasAThreadForEachTaskAtATime(t *testing.T) {
	events := []timeline.Event{
		event("b", 0, 10*time.Millisecond), event("b", 5*time.Millisecond, 10*time.Millisecond), event("b", 10*time.Millisecond, time.Millisecond),
		event("a", 3*time.Millisecond, 1500*time.Nanosecond),
	}
	events[3].Job, events[3].Index = "j1", 7
	all, tasks := trace(t, events)
	if len(tasks) != 4 || len(all) != 4+2+3 {
		t.Fatalf("%d events, %d of them tasks", len(all), len(tasks))
	}
	for i, want := range []struct{ process, thread int }{{2, 1}, {1, 1}, {2, 2}, {2, 1}} {
		if o := tasks[i]; o.Process != want.process || o.Thread != want.thread || o.Name != "score" || o.Args["state"] != "SUCCEEDED" {
			t.Errorf("task %d: %+v, expected %+v", i, o, want)
		}
	}
	if o := tasks[1]; o.Took != 1.5 || o.Begin != 3000 || o.Args["job"] != "j1" || o.Args["task"] != 7.0 || o.Category != "job" {
		t.Errorf("%+v", o)
	}
	names := map[string]bool{}
	for _, o := range all {
		if o.Phase == "M" {
			names[o.Name+" "+o.Args["name"].(string)] = true
		}
	}
	for _, want := range []string{"process_name a", "process_name b", "thread_name slot 1", "thread_name slot 2"} {
		if !names[want] {
			t.Errorf("no %s among %v", want, names)
		}
	}
}

// On no thread do two events overlap, whatever they are.
func TestThreadsDoNotOverlap(t *testing.T) {
	var events []timeline.Event
	for i := range 500 {
		events = append(events, event("a", time.Duration(i*i%97)*time.Millisecond, time.Duration(i%13)*time.Millisecond))
	}
	_, tasks := trace(t, events)
	free := map[int]float64{}
	for _, o := range tasks {
		if o.Begin < free[o.Thread] {
			t.Fatalf("thread %d is not free before %v: %+v", o.Thread, free[o.Thread], o)
		}
		free[o.Thread] = o.Begin + o.Took
	}
}

func TestRingKeepsTheLatest(t *testing.T) {
	r := timeline.NewRing(3)
	for i := range 5 {
		e := event("a", time.Duration(i)*time.Second, time.Second)
		if i%2 == 0 {
			e.Job = "j1"
		}
		r.Add(e)
	}
	for job, want := range map[engine.JobID][]int{"": {2, 3, 4}, "j1": {2, 4}, "j2": nil} {
		events := r.Events(job)
		if len(events) != len(want) {
			t.Fatalf("job %q: %d events", job, len(events))
		}
		for i, e := range events {
			if got := int(e.Begin.Sub(start) / time.Second); got != want[i] {
				t.Errorf("job %q: event %d is %d, expected %d", job, i, got, want[i])
			}
		}
	}
	var none *timeline.Ring
	none.Add(event("a", 0, 0))
	if none.Events("") != nil {
		t.Error("a nil ring holds something")
	}
}
