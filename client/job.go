package client

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Job is a handle of one job. It is safe for concurrent use.
type Job struct {
	client   *Client
	id       engine.JobID
	attached bool
}

// Result is how a job ended.
type Result struct {
	// JobID and State are always set; State is terminal.
	JobID engine.JobID
	State engine.JobState
	// RowsRead, RowsWritten, and RowsRejected count rows of committed tasks.
	RowsRead, RowsWritten, RowsRejected int64
	// BytesRead and BytesWritten count bytes as stored.
	BytesRead, BytesWritten int64
	// Batches counts the record batches that went through the steps.
	Batches int64
	// TextsTruncated counts the texts that steps embed have cut, because the model takes no more tokens.
	TextsTruncated int64
	// RowsFiltered counts the rows of committed tasks that steps filter have left out: RowsRead = RowsWritten + RowsRejected +
	// RowsFiltered.
	RowsFiltered int64
	// InputsRead is how many inputs the job has read, InputsKnown how many it has left out because earlier jobs have read them.
	InputsRead, InputsKnown int64
	// OnlyNew says that it leaves those out.
	OnlyNew bool
	// CachedFrom is the job whose output was taken over instead of making it; empty for all others.
	CachedFrom engine.JobID
	// Seconds is the time from the job's submission to its end.
	Seconds float64
	// Outputs are the paths of the output files in the order of the input. Of objects they are the references, as engine.ParseObjectRef
	// reads them.
	Outputs []string
	// Err is why the job failed; nil unless State is engine.JobFailed.
	Err *engine.Error
}

// ID returns the id by which the handle was made: the job's own after Submit.
func (j *Job) ID() engine.JobID { return j.id }

// Attached reports whether Submit found the job under its submission id instead of making it.
func (j *Job) Attached() bool { return j.attached }

// Status returns the job as it is now. An unknown job is an error of kind engine.KindNotFound.
func (j *Job) Status(ctx context.Context) (*enginev1.Job, error) {
	response, err := j.client.jobs.GetJob(ctx, &enginev1.GetJobRequest{JobId: string(j.id)})
	if err != nil {
		return nil, err
	}
	return response.GetJob(), nil
}

// Stop stops the job and returns it as it is then. A job that has ended is returned as it is.
func (j *Job) Stop(ctx context.Context) (*enginev1.Job, error) {
	response, err := j.client.jobs.StopJob(ctx, &enginev1.StopJobRequest{JobId: string(j.id)})
	if err != nil {
		return nil, err
	}
	return response.GetJob(), nil
}

// Forget drops the job, which must have ended, and returns it as it was. What it has written goes that nobody sees, if it did not succeed;
// with discard, so do the files that it has published.
func (j *Job) Forget(ctx context.Context, discard bool) (*enginev1.Job, error) {
	response, err := j.client.jobs.ForgetJob(ctx, &enginev1.ForgetJobRequest{JobId: string(j.id), Discard: discard})
	if err != nil {
		return nil, err
	}
	return response.GetJob(), nil
}

// Resume makes a failed or stopped job run again where it stood. It is a conflict if the job has succeeded, or if its inputs or
// models have changed; the error says which.
func (j *Job) Resume(ctx context.Context) (*enginev1.Job, error) {
	return j.ResumeWith(ctx, nil)
}

// ResumeWith is Resume with secrets, by what stands behind "secret:" in the job, that replace those that the job has; others stay.
func (j *Job) ResumeWith(ctx context.Context, secrets map[string][]byte) (*enginev1.Job, error) {
	response, err := j.client.jobs.ResumeJob(ctx, &enginev1.ResumeJobRequest{JobId: string(j.id), Secrets: secrets})
	if err != nil {
		return nil, err
	}
	return response.GetJob(), nil
}

// reconnectFor is how long Watch, Logs, and the waits for objects and placement groups try to reach a head that has gone away, counted from when the stream broke.
const reconnectFor = time.Minute

// Watch calls see with the job now and after each change until it has ended, see returns an error, or ctx ends. It connects again
// by itself when the head restarts. It blocks.
func (j *Job) Watch(ctx context.Context, see func(*enginev1.Job) error) error {
	var last *enginev1.Job
	return follow(ctx, "follow job", string(j.id), func(ctx context.Context, alive func()) error {
		stream, err := j.client.jobs.WatchJob(ctx, &enginev1.WatchJobRequest{JobId: string(j.id)})
		for err == nil {
			var response *enginev1.WatchJobResponse
			if response, err = stream.Recv(); err != nil {
				break
			}
			alive()
			last = response.GetJob()
			if seeErr := see(last); seeErr != nil {
				return stopped{seeErr}
			}
		}
		if errors.Is(err, io.EOF) && last != nil && rpc.JobStateFromProto(last.GetState()).Terminal() {
			return nil
		}
		return err
	})
}

// Wait blocks until the job has ended, and tells how. Its error is about the waiting; the job's own failure is in the Result.
func (j *Job) Wait(ctx context.Context) (Result, error) {
	var last *enginev1.Job
	if err := j.Watch(ctx, func(job *enginev1.Job) error {
		last = job
		return nil
	}); err != nil {
		return Result{}, err
	}
	return NewResult(last), nil
}

// NewResult makes the Result of a job that has ended.
func NewResult(job *enginev1.Job) Result {
	progress := job.GetProgress()
	result := Result{
		JobID: engine.JobID(job.GetJobId()), State: rpc.JobStateFromProto(job.GetState()),
		RowsRead: progress.GetRowsRead(), RowsWritten: progress.GetRowsWritten(), RowsRejected: progress.GetRowsRejected(),
		BytesRead: progress.GetBytesRead(), BytesWritten: progress.GetBytesWritten(), Batches: progress.GetBatches(),
		TextsTruncated: progress.GetTextsTruncated(), RowsFiltered: progress.GetRowsFiltered(),
		InputsRead: job.GetInputs(), InputsKnown: job.GetInputsKnown(), OnlyNew: job.GetOnlyNew(), CachedFrom: engine.JobID(job.GetCachedFrom()),
		Err: rpc.FromProto(job.GetError()),
	}
	if job.GetEndTime() != nil {
		result.Seconds = job.GetEndTime().AsTime().Sub(job.GetSubmitTime().AsTime()).Seconds()
	}
	for _, output := range job.GetOutputs() {
		result.Outputs = append(result.Outputs, output.GetPath())
	}
	return result
}

// LogOptions selects lines of a job's log.
type LogOptions struct {
	// After is the sequence number after which lines are sent; 0 means all.
	After uint64
	// Follow waits for further lines until the job has ended.
	Follow bool
}

// Logs calls see with the lines of the job's log in order, each once, also across a restart of the head. It blocks until the last
// line, until see returns an error, or until ctx ends.
func (j *Job) Logs(ctx context.Context, options LogOptions, see func(*enginev1.LogLine) error) error {
	after := options.After
	return follow(ctx, "follow job", string(j.id), func(ctx context.Context, alive func()) error {
		stream, err := j.client.jobs.ReadJobLog(ctx, &enginev1.ReadJobLogRequest{JobId: string(j.id), AfterSequence: after, Follow: options.Follow})
		for err == nil {
			var response *enginev1.ReadJobLogResponse
			if response, err = stream.Recv(); err != nil {
				break
			}
			alive()
			for _, line := range response.GetLines() {
				if seeErr := see(line); seeErr != nil {
					return stopped{seeErr}
				}
				after = line.GetSequence()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// stopped is an error of the caller's own function, which ends the loop as it is.
type stopped struct{ error }

// follow calls stream again while the head is away; stream calls alive with every message. A head that cannot be reached at first is
// not waited for. op and id name what ctx's end interrupts.
func follow(ctx context.Context, op, id string, stream func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lostSince time.Time // When the last stream broke; zero while none has said anything since.
	heard := false
	var backoff rpc.Backoff
	for {
		err := stream(ctx, func() {
			heard, lostSince = true, time.Time{}
			backoff.Reset()
		})
		if lostSince.IsZero() {
			lostSince = time.Now()
		}
		var own stopped
		switch {
		case errors.As(err, &own):
			return own.error
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return engine.WrapError(op, id, context.Cause(ctx))
		case engine.KindOf(err) != engine.KindUnavailable && !errors.Is(err, io.EOF),
			!heard && rpc.IsNotLeader(err) == nil, time.Since(lostSince) > reconnectFor:
			return err
		}
		backoff.Wait(ctx, nil)
	}
}
