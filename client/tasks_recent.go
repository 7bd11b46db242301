package client

import "github.com/f708428e/engine"

// The bounds of what is remembered of tasks that have ended.
const (
	recentTasks = 10_000
	recentBytes = 32 << 20
)

// recent remembers the last tasks that have failed or made something, so that Get of an output needs neither its handle nor the head.
type recent struct {
	byID map[engine.TaskUID]*TaskHandle
	// order has their ids from start on, the oldest first.
	order []engine.TaskUID
	start int
	// bytes are the values of their outputs.
	bytes int
}

// get returns a task that is remembered, or nil.
func (r *recent) get(id engine.TaskUID) *TaskHandle { return r.byID[id] }

// add remembers a task that has ended.
func (r *recent) add(h *TaskHandle) {
	if h.err == nil && len(h.result.Outputs) == 0 {
		return
	}
	if r.byID == nil {
		r.byID = map[engine.TaskUID]*TaskHandle{}
	}
	r.byID[h.id] = h
	r.order = append(r.order, h.id)
	r.bytes += h.valueBytes()
	for len(r.byID) > recentTasks || r.bytes > recentBytes {
		id := r.order[r.start]
		r.bytes -= r.byID[id].valueBytes()
		delete(r.byID, id)
		if r.start++; r.start >= recentTasks {
			r.order, r.start = append(r.order[:0], r.order[r.start:]...), 0
		}
	}
}

// valueBytes is how many bytes of outputs the handle of a task that has ended holds.
func (h *TaskHandle) valueBytes() int {
	bytes := 0
	for i := range h.result.Outputs {
		bytes += len(h.result.Outputs[i].Value)
	}
	return bytes
}

// blamed is the failure of a task that the head does not know and whose output is among the arguments; nil if there is none.
func (r *recent) blamed(args []engine.Arg) error {
	for i := range args {
		if args[i].Value != nil {
			continue
		}
		id, _, ok := args[i].Ref.ID.Producer()
		if h := r.byID[id]; ok && h != nil && h.err != nil && h.submitted == 0 {
			return engine.WrapError("make argument", args[i].Ref.ID.String(), h.err)
		}
	}
	return nil
}
