package tasks

import enginev1 "github.com/f708428e/engine/proto/engine/v1"

// Counts are what holds for all tasks together.
type Counts struct {
	// States counts the tasks since the start by state, those that wait and run included.
	States [enginev1.TaskState_TASK_STATE_CANCELLED + 1]int64
	// Lost counts attempts that were lost.
	Lost int64
	// Known are the tasks that are remembered, Sessions the clients that have some, Groups the placement groups.
	Known, Sessions, Groups int64
	// Bytes is what the arguments of those that have not ended and all templates take; LineageTasks may run again, and take LineageBytes,
	// their templates included.
	Bytes, LineageTasks, LineageBytes int64
}

// Counts returns the counts as they are now. It takes time for each name of tasks.
func (c *Core) Counts() Counts {
	counts := Counts{
		Known: int64(len(c.tasks)), Sessions: int64(len(c.sessions)), Groups: int64(len(c.groups)), Bytes: c.bytes,
		LineageTasks: int64(c.lineageCount), LineageBytes: c.lineageBytes,
	}
	for _, s := range c.summaries {
		counts.Lost += s.lost
		for state, n := range s.states {
			counts.States[state] += n
		}
	}
	return counts
}
