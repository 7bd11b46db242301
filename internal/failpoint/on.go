//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Enabled tells whether the build has failpoints.
const Enabled = true

// Hit says that the process has come to a place. It is safe for concurrent use, and returns unless the process was to end there.
func Hit(p Point) {
	if f := hook.Load(); f != nil {
		(*f)(p)
	}
	process().hit(p)
}

var hook atomic.Pointer[func(Point)]

// SetHook makes f be called at every place, by whoever comes there. Nil ends that.
func SetHook(f func(Point)) {
	if f == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&f)
}

// order is what is to happen at a place.
type order struct {
	point Point
	// nth counts the visits that are left before it happens, that one included.
	nth int
	// pause is zero where the process is to end.
	pause time.Duration
}

// table is what this process was told.
type table struct {
	mu     sync.Mutex
	orders []order
	once   string
	trace  *os.File
}

// process reads the environment once. What cannot be understood ends the process: a test would wait for nothing.
var process = sync.OnceValue(func() *table {
	t := &table{once: os.Getenv(OnceVariable)}
	var err error
	if t.orders, err = parse(os.Getenv(Variable)); err == nil {
		if path := os.Getenv(TraceVariable); path != "" {
			t.trace, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "failpoint:", err)
		os.Exit(2)
	}
	return t
})

func parse(text string) (orders []order, err error) {
	if text == "" {
		return nil, nil
	}
	known := map[Point]bool{Any: true}
	for _, p := range Points() {
		known[p] = true
	}
	for _, word := range strings.Split(text, ",") {
		rest, pause, pauses := strings.Cut(word, "=")
		name, nth, counted := strings.Cut(rest, ":")
		o := order{point: Point(name), nth: 1}
		if !known[o.point] {
			return nil, fmt.Errorf("%s: there is no failpoint %q", Variable, name)
		}
		if counted {
			if o.nth, err = strconv.Atoi(nth); err != nil || o.nth < 1 {
				return nil, fmt.Errorf("%s: %q is no count", Variable, nth)
			}
		}
		if pauses {
			if o.pause, err = time.ParseDuration(pause); err != nil {
				return nil, fmt.Errorf("%s: %w", Variable, err)
			}
		}
		orders = append(orders, o)
	}
	return orders, nil
}

func (t *table) hit(p Point) {
	due := t.due(p)
	switch {
	case due == nil || !t.first(p):
	case due.pause > 0:
		<-time.After(due.pause)
	default:
		end(p)
	}
}

// due returns the order that this visit fulfils, or nil. Each counts for itself.
func (t *table) due(p Point) (due *order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trace != nil {
		_, _ = fmt.Fprintln(t.trace, p) // the test misses it
	}
	for i := range t.orders {
		o := &t.orders[i]
		if o.point != p && o.point != Any {
			continue
		}
		if o.nth--; o.nth == 0 && due == nil {
			due = o
		}
	}
	return due
}

// first tells whether no other process has acted here.
func (t *table) first(p Point) bool {
	if t.once == "" {
		return true
	}
	f, err := os.OpenFile(filepath.Join(t.once, p.Mark()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return err == nil && f.Close() == nil
}

// end kills the process: no deferred call runs and nothing is flushed.
func end(p Point) {
	fmt.Fprintln(os.Stderr, "killed at", p)
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // until the signal comes
}
