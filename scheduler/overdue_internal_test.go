package scheduler

import (
	"fmt"
	"testing"

	"github.com/f708428e/engine"
)

// TestPlacedIsNotOverdue checks that a queue goes as a whole once nothing more of it can be placed, although one of its classes was overdue
// when the pass began.
func TestPlacedIsNotOverdue(t *testing.T) {
	for _, pending := range []int{1, 2} { // All of the overdue class is placed, or a part.
		s := Snapshot{
			Nodes:   []Node{{ID: "a", Total: engine.Resources{CPU: 2}}},
			Classes: []Class{{ID: "late", Pending: pending, Overdue: true, Priority: 1, Request: engine.Resources{CPU: 2}}},
		}
		for i := range 9 {
			s.Classes = append(s.Classes, Class{ID: fmt.Sprint(i), Pending: 1, Order: 1, Request: engine.Resources{CPU: 1}})
		}
		p := newPass(&s)
		p.run()
		if q := p.shares[0]; q.overdue != 0 || len(q.claims) < 8 {
			t.Errorf("with %d pending, %d are overdue in the end and %d were left", pending, q.overdue, len(q.claims))
		}
		if len(p.granted) != 1 || p.granted[0].claim != 0 {
			t.Errorf("granted %+v", p.granted)
		}
	}
}
