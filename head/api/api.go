// Package api adapts the head to the wire: one small server for each gRPC service. Protobuf ends here.
package api

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
)

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// find returns a copy of what is durable of a job, by its id or its submission id.
func find(store *state.Store, operation, id string) (*state.Job, error) {
	if id == "" {
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "a job id is required")
	}
	var job state.Job
	store.View(func(s *state.State) {
		if found := s.Job(id); found != nil {
			job = *found
			// The slice grows no more, but its entries are set while the job runs.
			job.Committed = append(job.Committed[:0:0], found.Committed...)
		}
	})
	if job.ID == "" {
		return nil, noSuchJob(operation, id)
	}
	return &job, nil
}

// noSuchJob is also what those hear who are not granted the queue of a job.
func noSuchJob(operation, id string) error {
	return engine.Errorf(engine.KindNotFound, operation, id, "no such job").WithHint("`engine job list` shows the jobs that this head knows")
}
