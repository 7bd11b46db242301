package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// watchInterval is how often the progress of a watched job is looked at.
const watchInterval = 200 * time.Millisecond

// Jobs serves enginev1.JobService.
type Jobs struct {
	enginev1.UnimplementedJobServiceServer
	store   *state.Store
	manager *jobs.Manager
	// clusterID is part of the references of outputs.
	clusterID string
}

// NewJobs makes the server of the jobs of a manager and its store.
func NewJobs(store *state.Store, manager *jobs.Manager) *Jobs {
	s := &Jobs{store: store, manager: manager}
	store.View(func(st *state.State) { s.clusterID = st.ClusterID })
	return s
}

// SubmitJob implements enginev1.JobServiceServer.
func (s *Jobs) SubmitJob(ctx context.Context, request *enginev1.SubmitJobRequest) (*enginev1.SubmitJobResponse, error) {
	if request.GetSpec() == nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "submit job", "", "the request carries no spec")
	}
	if err := checkOwn(ctx, "submit job", request.GetSpec().GetQueue()); err != nil {
		return nil, err
	}
	secrets, err := secret.ValuesOf(request.GetSecrets())
	if err != nil {
		return nil, engine.WrapError("submit job", "", err)
	}
	caller := access.Of(ctx)
	id, attached, err := s.manager.Submit(telemetry.FromCall(ctx), jobs.Submission{
		SubmittedBy: caller.Name, GrantedQueues: caller.Queues, ID: engine.JobID(request.GetJobId()), SubmissionID: request.GetSubmissionId(), Spec: request.GetSpec(), OnlyNew: request.GetOnlyNew(),
		Secrets: secrets,
	})
	if err != nil {
		return nil, err
	}
	job, err := s.describe(ctx, "submit job", string(id))
	if err != nil {
		return nil, err
	}
	return &enginev1.SubmitJobResponse{Job: job, Attached: attached}, nil
}

// GetJob implements enginev1.JobServiceServer.
func (s *Jobs) GetJob(ctx context.Context, request *enginev1.GetJobRequest) (*enginev1.GetJobResponse, error) {
	job, err := s.describe(ctx, "get job", request.GetJobId())
	return &enginev1.GetJobResponse{Job: job}, err
}

// ListJobs implements enginev1.JobServiceServer.
func (s *Jobs) ListJobs(ctx context.Context, request *enginev1.ListJobsRequest) (*enginev1.ListJobsResponse, error) {
	limit := int(request.GetLimit())
	switch {
	case limit < 0 || limit > 10_000:
		return nil, engine.Errorf(engine.KindInvalidArgument, "list jobs", "", "limit must be between 0 and 10000, found %d", limit)
	case limit == 0:
		limit = 100
	}
	wanted := map[engine.JobState]bool{}
	for _, state := range request.GetStates() {
		wanted[rpc.JobStateFromProto(state)] = true
	}
	var ids []string
	caller := access.Of(ctx)
	s.store.View(func(st *state.State) {
		all := st.Jobs()
		for i := len(all) - 1; i >= 0 && len(ids) < limit; i-- {
			if (len(wanted) == 0 || wanted[all[i].State()]) && caller.MayUse(all[i].Spec.GetQueue()) {
				ids = append(ids, string(all[i].ID))
			}
		}
	})
	response := &enginev1.ListJobsResponse{}
	for _, id := range ids {
		job, err := s.describe(ctx, "list jobs", id)
		if engine.KindOf(err) == engine.KindNotFound && err != nil {
			continue // Forgotten in between.
		}
		if err != nil {
			return nil, err
		}
		job.Spec, job.Outputs = nil, nil
		response.Jobs = append(response.Jobs, job)
	}
	return response, nil
}

// WatchJob implements enginev1.JobServiceServer.
func (s *Jobs) WatchJob(request *enginev1.WatchJobRequest, stream grpc.ServerStreamingServer[enginev1.WatchJobResponse]) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var sent *enginev1.Job
	unfollow := func() {}
	defer func() { unfollow() }()
	for {
		known, err := findGranted(stream.Context(), s.store, "watch job", request.GetJobId())
		if err != nil {
			return err
		}
		if sent == nil {
			unfollow = s.manager.Follow(known.ID)
		}
		changed := s.manager.Changed(known.ID)
		job, err := s.describe(stream.Context(), "watch job", string(known.ID))
		if err != nil {
			return err
		}
		if sent != nil {
			job.Spec = nil
		}
		if sent == nil || !proto.Equal(sent, job) {
			if err := stream.Send(&enginev1.WatchJobResponse{Job: job}); err != nil {
				return err
			}
			job.Spec = nil
			sent = job
		}
		if rpc.JobStateFromProto(job.GetState()).Terminal() {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// StopJob implements enginev1.JobServiceServer.
func (s *Jobs) StopJob(ctx context.Context, request *enginev1.StopJobRequest) (*enginev1.StopJobResponse, error) {
	known, err := findGranted(ctx, s.store, "stop job", request.GetJobId())
	if err != nil {
		return nil, err
	}
	if err := s.manager.Stop(ctx, known.ID); err != nil {
		return nil, err
	}
	job, err := s.describe(ctx, "stop job", string(known.ID))
	return &enginev1.StopJobResponse{Job: job}, err
}

// ResumeJob implements enginev1.JobServiceServer.
func (s *Jobs) ResumeJob(ctx context.Context, request *enginev1.ResumeJobRequest) (*enginev1.ResumeJobResponse, error) {
	known, err := findGranted(ctx, s.store, "resume job", request.GetJobId())
	if err != nil {
		return nil, err
	}
	secrets, err := secret.ValuesOf(request.GetSecrets())
	if err != nil {
		return nil, engine.WrapError("resume job", string(known.ID), err)
	}
	if err := s.manager.Resume(ctx, known.ID, secrets); err != nil {
		return nil, err
	}
	job, err := s.describe(ctx, "resume job", string(known.ID))
	return &enginev1.ResumeJobResponse{Job: job}, err
}

// ForgetJob implements enginev1.JobServiceServer.
func (s *Jobs) ForgetJob(ctx context.Context, request *enginev1.ForgetJobRequest) (*enginev1.ForgetJobResponse, error) {
	job, err := s.describe(ctx, "forget job", request.GetJobId())
	if err != nil {
		return nil, err
	}
	if err := s.manager.Forget(ctx, engine.JobID(job.GetJobId()), request.GetDiscard()); err != nil {
		return nil, err
	}
	return &enginev1.ForgetJobResponse{Job: job}, nil
}

// ReadJobLog implements enginev1.JobServiceServer.
func (s *Jobs) ReadJobLog(request *enginev1.ReadJobLogRequest, stream grpc.ServerStreamingServer[enginev1.ReadJobLogResponse]) error {
	job, err := findGranted(stream.Context(), s.store, "read job log", request.GetJobId())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var ended chan struct{}
	if request.GetFollow() {
		defer s.manager.Follow(job.ID)()
		ended = make(chan struct{})
		go func() { // lifecycle: ends with the stream's context.
			defer close(ended)
			s.awaitEnd(ctx, job.ID)
		}()
	}
	return s.manager.ReadLog(ctx, job.ID, request.GetAfterSequence(), ended, func(lines []*enginev1.LogLine) error {
		return stream.Send(&enginev1.ReadJobLogResponse{Lines: lines})
	})
}

// Describe returns a job by its id or submission id, with the last lines of its log, at most that many, and how many came before them.
func (s *Jobs) Describe(ctx context.Context, id string, lines int) (job *enginev1.Job, log []*enginev1.LogLine, earlier int, err error) {
	if job, err = s.describe(ctx, "show job", id); err != nil {
		return nil, nil, 0, err
	}
	err = s.manager.ReadLog(ctx, engine.JobID(job.GetJobId()), 0, nil, func(more []*enginev1.LogLine) error {
		log = append(log, more...)
		if over := len(log) - lines; over > 0 {
			earlier += over
			log = slices.Clone(log[over:])
		}
		return nil
	})
	return job, log, earlier, err
}

// awaitEnd returns when the job has ended or ctx has.
func (s *Jobs) awaitEnd(ctx context.Context, id engine.JobID) {
	for {
		changed := s.manager.Changed(id)
		if job, err := find(s.store, "read job log", string(id)); err != nil || job.Ended != nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// describe makes the message of a job that the caller may see from its durable state and, while it runs, from what the dispatcher knows.
func (s *Jobs) describe(ctx context.Context, operation, id string) (*enginev1.Job, error) {
	job, err := findGranted(ctx, s.store, operation, id)
	if err != nil {
		return nil, err
	}
	cached := job.Ended.GetCached()
	message := &enginev1.Job{
		JobId: string(job.ID), SubmissionId: job.SubmissionID, Name: job.Spec.GetName(), State: rpc.JobStateToProto(job.State()),
		Error: job.Ended.GetError(), Spec: job.Spec, SubmitTime: timestamp(job.SubmitTime), StartTime: timestamp(job.StartTime),
		EndTime: timestamp(job.EndTime), Resumptions: job.Resumptions, Labels: job.Spec.GetLabels(), Progress: s.progress(job),
		OutputColumns: job.OutputColumns(), SourceColumns: job.Plan.GetSourceColumns(),
	}
	message.OnlyNew, message.CachedFrom = job.OnlyNew, cached.GetJobId()
	message.Inputs, message.InputsKnown = int64(len(job.Plan.GetInputs())), job.Plan.GetInputsKnown()
	switch {
	case cached != nil:
		message.Outputs = cached.GetOutputs()
		for _, output := range cached.GetOutputs() {
			if output.GetSink() != jobplan.RejectsName {
				message.Progress.RowsWritten += output.GetRows()
				message.Progress.BytesWritten += output.GetSizeBytes()
			}
		}
	case job.Ended != nil:
		message.Outputs = outputs(job, s.clusterID)
	default:
		message.Reason = s.manager.Phase(job.ID)
		if view, ok := s.manager.Dispatcher().Job(job.ID); ok && message.GetReason() == "" {
			message.Reason = view.Reason
			if hanging := hangs(view.Hanging); hanging != "" {
				message.Reason = hanging
			}
		}
	}
	return message, nil
}

// hangs says which tasks do not get on, in words; empty if all do.
func hangs(tasks []dispatch.HangingTask) string {
	if len(tasks) == 0 {
		return ""
	}
	first := tasks[0]
	text := fmt.Sprintf("task %d on node %s has done nothing for %s", first.Index, first.Node, first.Quiet.Round(time.Second))
	if more := len(tasks) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more hang", more)
	}
	return text
}

func (s *Jobs) progress(job *state.Job) *enginev1.JobProgress {
	counts := &enginev1.TaskCounts{}
	progress := &enginev1.JobProgress{
		TasksTotal: int64(len(job.Committed)), TasksDone: int64(job.CommittedCount), AttemptsLost: job.Ended.GetAttemptsLost(),
	}
	for i, task := range job.Plan.GetTasks() {
		splits := int64(len(task.GetSplits()))
		progress.SplitsTotal += splits
		if committed := job.Committed[i]; committed != nil {
			progress.SplitsDone += splits
			dispatch.AddCounts(counts, committed.GetCounts())
			counts.RowsProcessed += committed.GetCounts().GetRowsRead() - committed.GetCounts().GetRowsProcessed()
		}
	}
	if view, ok := s.manager.Dispatcher().Job(job.ID); ok {
		progress.TasksRunning, progress.AttemptsLost = view.Running, view.Lost
		dispatch.AddCounts(counts, view.Live)
	}
	for _, input := range job.Plan.GetInputs() {
		progress.BytesTotal += input.GetSizeBytes()
	}
	progress.RowsRead, progress.RowsWritten, progress.RowsRejected = counts.GetRowsRead(), counts.GetRowsWritten(), counts.GetRowsRejected()
	progress.BytesRead, progress.BytesWritten, progress.Batches = counts.GetBytesRead(), counts.GetBytesWritten(), counts.GetBatches()
	progress.TextsTruncated, progress.RowsFiltered = counts.GetTextsTruncated(), counts.GetRowsFiltered()
	progress.RowsProcessed = counts.GetRowsProcessed()
	return progress
}
