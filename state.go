package engine

// JobState is where a job stands. The names are Ray's.
//
//	            ┌──────────────── resume ────────────────┐
//	            v                                        │
//	submit → PENDING → RUNNING → SUCCEEDED               │
//	            │         ├────→ FAILED  ────────────────┤
//	            └─────────┴────→ STOPPED ────────────────┘
type JobState string

// The states of a job.
const (
	// JobPending is a job that is accepted and durable but has no task leased to a worker yet.
	JobPending JobState = "PENDING"
	// JobRunning is a job of which at least one task has been leased.
	JobRunning JobState = "RUNNING"
	// JobStopped is a job that a user stopped.
	JobStopped JobState = "STOPPED"
	// JobSucceeded is a job whose whole output is in place, _SUCCESS included.
	JobSucceeded JobState = "SUCCEEDED"
	// JobFailed is a job that ended with an error.
	JobFailed JobState = "FAILED"
)

// Terminal reports whether a job in this state does nothing more unless it is resumed.
func (s JobState) Terminal() bool {
	switch s {
	case JobStopped, JobSucceeded, JobFailed:
		return true
	default:
		return false
	}
}
