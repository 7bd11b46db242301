package tasks

import "fmt"

// Leftovers says what a core holds that it would not if it had never had a task.
func (c *Core) Leftovers() string {
	text := ""
	for _, left := range []struct {
		what string
		n    int
	}{
		{"sessions", len(c.sessions)}, {"tasks", len(c.tasks)}, {"templates", len(c.templates)}, {"classes", len(c.classes)}, {"class ids", len(c.byID)},
		{"active classes", len(c.active)}, {"families", len(c.families)}, {"objects", len(c.objects)}, {"producers", len(c.producers)},
		{"orphans", len(c.orphans)}, {"groups", len(c.groups)}, {"bytes", int(c.bytes)}, {"lineage", c.lineageCount}, {"lineage bytes", int(c.lineageBytes)},
		{"past", c.past.count}, {"blocked classes", c.blocked}, {"touched", len(c.touched) + len(c.touchedClasses) + len(c.toTell)},
	} {
		if left.n != 0 {
			text += fmt.Sprintf("%d %s; ", left.n, left.what)
		}
	}
	for id, f := range c.families {
		text += fmt.Sprintf("family %s of parent %s with %v; ", id, f.parent, f.children)
	}
	for _, q := range c.queues {
		if q.pending != 0 {
			text += fmt.Sprintf("%d pending in queue %s; ", q.pending, q.name)
		}
	}
	for _, n := range c.nodes {
		if used := n.used.Resources(); n.tasks != 0 || len(n.places) != 0 || used.CPU != 0 || used.GPU != 0 || used.MemoryBytes != 0 {
			text += fmt.Sprintf("node %s has %d tasks, %d places, and holds %s; ", n.id, n.tasks, len(n.places), used)
		}
	}
	for _, s := range c.summaries {
		for state, n := range s.states {
			if n < 0 || n != 0 && state < 4 {
				text += fmt.Sprintf("%d tasks named %s in state %d; ", n, s.name, state)
			}
		}
	}
	return text
}
