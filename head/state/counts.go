package state

import (
	"time"

	"github.com/f708428e/engine/internal/telemetry"
)

// Counts are what a store has written as the head that leads since it was opened, and what it holds now.
type Counts struct {
	// Entries became durable in Groups; Commit is how long each group took.
	Entries, Groups uint64
	Commit          telemetry.Durations
	// Queued are the proposals that wait for the writer.
	Queued int
	// LogBytes is the size of the log.
	LogBytes int64
	// Jobs are those that the state knows.
	Jobs int
}

// count adds a group that became durable.
func (s *Store) count(entries int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Entries += uint64(entries) //nolint:gosec // Not negative.
	s.counts.Groups++
	s.counts.Commit.Observe(took)
}

// Counts returns the counts as they are now.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	counts := s.counts
	counts.Queued = len(s.queue)
	s.mu.Unlock()
	counts.LogBytes = s.folder.log.SizeBytes()
	s.View(func(st *State) { counts.Jobs = st.JobCount() })
	return counts
}
