package jobs

import (
	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// rejected sums up what the committed tasks of a job have read and rejected.
func rejected(job *state.Job) (rows, of int64) {
	for _, committed := range job.Committed {
		rows += committed.GetCounts().GetRowsRejected()
		of += committed.GetCounts().GetRowsRead()
	}
	return rows, of
}

// checkRejected ends a job of which another task has been committed, if its tasks have rejected more rows than the job may.
func (m *Manager) checkRejected(id engine.JobID, committed *enginev1.TaskCommitted) {
	if committed.GetCounts().GetRowsRejected() == 0 {
		return
	}
	var rows, limit int64
	run := dispatch.Run{Job: id}
	m.store.View(func(s *state.State) {
		job := s.Job(string(id))
		if job == nil {
			return
		}
		run.Number = job.Resumptions
		if limit = job.Spec.GetOnBadRow().GetLimit(); limit > 0 {
			rows, _ = rejected(job)
		}
	})
	if limit > 0 && rows > limit {
		m.conclude(run, jobplan.TooManyRejected(rows, limit, ""))
	}
}

// checkShare refuses to complete a job that has rejected too many of its rows.
func checkShare(job *state.Job) error {
	bad := job.Spec.GetOnBadRow()
	rows, of := rejected(job)
	switch {
	case bad.GetLimit() > 0 && rows > bad.GetLimit():
		return jobplan.TooManyRejected(rows, bad.GetLimit(), "")
	case bad.GetShare() > 0 && float64(rows) > bad.GetShare()*float64(of):
		return engine.Errorf(engine.KindData, "run job", jobplan.RejectsName+".share", "%d of %d rows are rejected, a share of %.4g; at most %.4g may be",
			rows, of, float64(rows)/float64(of), bad.GetShare())
	}
	return nil
}
