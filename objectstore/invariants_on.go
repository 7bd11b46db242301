//go:build invariants

package objectstore

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/f708428e/engine"
)

// openLeaks has the open handles and pending objects of all stores.
var openLeaks = struct {
	mu     sync.Mutex
	traces map[*leak]string
}{traces: map[*leak]string{}}

// leak finds handles that are never released.
type leak struct{ store *Store }

func (l *leak) begin(s *Store, id engine.ObjectID) {
	l.store = s
	openLeaks.mu.Lock()
	defer openLeaks.mu.Unlock()
	openLeaks.traces[l] = fmt.Sprintf("object %s was opened at\n%s", id, debug.Stack())
}

func (l *leak) end() {
	openLeaks.mu.Lock()
	defer openLeaks.mu.Unlock()
	delete(openLeaks.traces, l)
}

// poison makes the use of memory after its end visible.
func poison(data []byte) {
	for i := range data {
		data[i] = 0xdb
	}
}

// Leaks returns where the handles and pending objects that are open were made.
func (s *Store) Leaks() []string {
	openLeaks.mu.Lock()
	defer openLeaks.mu.Unlock()
	var traces []string
	for l, trace := range openLeaks.traces {
		if l.store == s {
			traces = append(traces, trace)
		}
	}
	slices.Sort(traces)
	return traces
}
