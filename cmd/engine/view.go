package main

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The views are what -o json and -o yaml print. Unlike protojson they have numbers for 64-bit counts and the states' short
// names. Names and types are part of what users build on; fields may be added.

type errorView struct {
	Kind      string `json:"kind"`
	Operation string `json:"operation"`
	ID        string `json:"id"`
	Message   string `json:"message"`
	Hint      string `json:"hint"`
}

// resultView is what run, submit --wait, and job wait print.
type resultView struct {
	JobID        string     `json:"job_id"`
	State        string     `json:"state"`
	RowsRead     int64      `json:"rows_read"`
	RowsWritten  int64      `json:"rows_written"`
	RowsRejected int64      `json:"rows_rejected"`
	RowsFiltered int64      `json:"rows_filtered"`
	BytesRead    int64      `json:"bytes_read"`
	BytesWritten int64      `json:"bytes_written"`
	Batches      int64      `json:"batches"`
	Truncated    int64      `json:"texts_truncated,omitempty"`
	InputsRead   int64      `json:"inputs_read,omitempty"`
	InputsKnown  int64      `json:"inputs_known,omitempty"`
	CachedFrom   string     `json:"cached_from,omitempty"`
	Seconds      float64    `json:"seconds"`
	Outputs      []string   `json:"outputs"`
	Error        *errorView `json:"error"`
}

type jobView struct {
	JobID         string            `json:"job_id"`
	SubmissionID  string            `json:"submission_id"`
	Name          string            `json:"name"`
	State         string            `json:"state"`
	Reason        string            `json:"reason"`
	Error         *errorView        `json:"error"`
	Labels        map[string]string `json:"labels"`
	SubmitTime    *time.Time        `json:"submit_time"`
	StartTime     *time.Time        `json:"start_time"`
	EndTime       *time.Time        `json:"end_time"`
	Resumptions   int32             `json:"resumptions"`
	OnlyNew       bool              `json:"only_new,omitempty"`
	CachedFrom    string            `json:"cached_from,omitempty"`
	Inputs        int64             `json:"inputs,omitempty"`
	InputsKnown   int64             `json:"inputs_known,omitempty"`
	Progress      progressView      `json:"progress"`
	SourceColumns []columnView      `json:"source_columns,omitempty"`
	OutputColumns []columnView      `json:"output_columns,omitempty"`
	Outputs       []outputView      `json:"outputs,omitempty"`
}

type progressView struct {
	TasksTotal   int64 `json:"tasks_total"`
	TasksDone    int64 `json:"tasks_done"`
	TasksRunning int64 `json:"tasks_running"`
	SplitsTotal  int64 `json:"splits_total"`
	SplitsDone   int64 `json:"splits_done"`
	RowsRead     int64 `json:"rows_read"`
	// RowsProcessed are those that the steps are through with.
	RowsProcessed int64 `json:"rows_processed"`
	RowsWritten   int64 `json:"rows_written"`
	RowsRejected  int64 `json:"rows_rejected"`
	RowsFiltered  int64 `json:"rows_filtered"`
	BytesTotal    int64 `json:"bytes_total"`
	BytesRead     int64 `json:"bytes_read"`
	BytesWritten  int64 `json:"bytes_written"`
	Batches       int64 `json:"batches"`
	Truncated     int64 `json:"texts_truncated,omitempty"`
	AttemptsLost  int64 `json:"attempts_lost"`
}

type columnView struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type outputView struct {
	Path       string `json:"path"`
	Rows       int64  `json:"rows"`
	SizeBytes  int64  `json:"size_bytes"`
	Pin        string `json:"pin,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

type resourcesView struct {
	CPU            float64            `json:"cpu"`
	GPU            float64            `json:"gpu"`
	MemoryBytes    int64              `json:"memory_bytes"`
	GPUMemoryBytes int64              `json:"gpu_memory_bytes"`
	Custom         map[string]float64 `json:"custom"`
}

type nodeView struct {
	NodeID       string            `json:"node_id"`
	Host         string            `json:"host"`
	PID          int64             `json:"pid"`
	State        string            `json:"state"`
	Total        resourcesView     `json:"total"`
	Used         resourcesView     `json:"used"`
	TasksRunning int32             `json:"tasks_running"`
	Labels       map[string]string `json:"labels"`
	Version      string            `json:"version"`
	JoinTime     *time.Time        `json:"join_time"`
	ReportTime   *time.Time        `json:"report_time"`
	Suspect      bool              `json:"suspect"`
}

type clusterView struct {
	ClusterID     string           `json:"cluster_id"`
	Address       string           `json:"address"`
	Web           string           `json:"web"`
	Version       string           `json:"version"`
	StartTime     *time.Time       `json:"start_time"`
	UptimeSeconds float64          `json:"uptime_seconds"`
	Total         resourcesView    `json:"total"`
	Used          resourcesView    `json:"used"`
	NodesAlive    int32            `json:"nodes_alive"`
	Heads         []headView       `json:"heads"`
	Nodes         []nodeView       `json:"nodes"`
	Jobs          map[string]int64 `json:"jobs"`
	TasksPending  int64            `json:"tasks_pending"`
	TasksRunning  int64            `json:"tasks_running"`
}

type headView struct {
	ID      string `json:"head_id"`
	Address string `json:"address"`
	Leader  bool   `json:"leader"`
	Voter   bool   `json:"voter"`
	State   string `json:"state"`
}

func viewHeads(heads []*enginev1.HeadInfo) []headView {
	views := []headView{}
	for _, head := range heads {
		views = append(views, headView{ID: head.GetHeadId(), Address: head.GetAddress(), Leader: head.GetLeader(), Voter: head.GetVoter(),
			State: headState(head.GetState())})
	}
	return views
}

type logView struct {
	Sequence   uint64            `json:"sequence"`
	Time       *time.Time        `json:"time"`
	Level      string            `json:"level"`
	Origin     string            `json:"origin"`
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes"`
}

func viewTime(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	v := t.AsTime()
	return &v
}

// viewError describes any error; nil gives nil.
func viewError(err error) *errorView {
	if err == nil {
		return nil
	}
	for {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 1 {
			break
		}
		err = joined.Unwrap()[0]
	}
	e, ok := err.(*engine.Error) //nolint:errorlint // Only the outermost layer has fields of its own.
	if !ok {
		return &errorView{Kind: engine.KindOf(err).String(), Message: err.Error()}
	}
	v := &errorView{Kind: e.Kind.String(), Operation: e.Op, ID: e.ID, Hint: e.Hint}
	if e.Err == nil {
		return v
	}
	text, hints := explain(e.Err)
	v.Message = text
	if v.Hint == "" && len(hints) > 0 {
		v.Hint = hints[0]
	}
	return v
}

func viewWireError(e *enginev1.Error) *errorView {
	if e == nil {
		return nil
	}
	return &errorView{Kind: e.GetKind(), Operation: e.GetOperation(), ID: e.GetId(), Message: e.GetMessage(), Hint: e.GetHint()}
}

func viewResult(r client.Result) resultView {
	v := resultView{
		JobID: string(r.JobID), State: string(r.State), RowsRead: r.RowsRead, RowsWritten: r.RowsWritten, RowsRejected: r.RowsRejected,
		RowsFiltered: r.RowsFiltered, BytesRead: r.BytesRead, BytesWritten: r.BytesWritten, Batches: r.Batches, Truncated: r.TextsTruncated, Seconds: r.Seconds, Outputs: r.Outputs,
		InputsRead: r.InputsRead, InputsKnown: r.InputsKnown, CachedFrom: string(r.CachedFrom),
	}
	if v.Outputs == nil {
		v.Outputs = []string{}
	}
	if r.Err != nil {
		v.Error = viewError(r.Err)
	}
	return v
}

func viewJob(j *enginev1.Job) jobView {
	p := j.GetProgress()
	v := jobView{
		JobID: j.GetJobId(), SubmissionID: j.GetSubmissionId(), Name: j.GetName(), State: string(rpc.JobStateFromProto(j.GetState())), Reason: j.GetReason(),
		Error: viewWireError(j.GetError()), Labels: j.GetLabels(), SubmitTime: viewTime(j.GetSubmitTime()), StartTime: viewTime(j.GetStartTime()),
		EndTime: viewTime(j.GetEndTime()), Resumptions: j.GetResumptions(),
		OnlyNew: j.GetOnlyNew(), CachedFrom: j.GetCachedFrom(), Inputs: j.GetInputs(), InputsKnown: j.GetInputsKnown(),
		Progress: progressView{
			TasksTotal: p.GetTasksTotal(), TasksDone: p.GetTasksDone(), TasksRunning: p.GetTasksRunning(), SplitsTotal: p.GetSplitsTotal(),
			SplitsDone: p.GetSplitsDone(), RowsRead: p.GetRowsRead(), RowsProcessed: p.GetRowsProcessed(), RowsWritten: p.GetRowsWritten(), RowsRejected: p.GetRowsRejected(),
			RowsFiltered: p.GetRowsFiltered(), BytesTotal: p.GetBytesTotal(), BytesRead: p.GetBytesRead(), BytesWritten: p.GetBytesWritten(), Batches: p.GetBatches(),
			Truncated:    p.GetTextsTruncated(),
			AttemptsLost: p.GetAttemptsLost(),
		},
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	for _, c := range j.GetSourceColumns() {
		v.SourceColumns = append(v.SourceColumns, columnView{c.GetName(), c.GetType()})
	}
	for _, c := range j.GetOutputColumns() {
		v.OutputColumns = append(v.OutputColumns, columnView{c.GetName(), c.GetType()})
	}
	for _, o := range j.GetOutputs() {
		v.Outputs = append(v.Outputs, outputView{o.GetPath(), o.GetRows(), o.GetSizeBytes(), o.GetPin(), o.GetCheckpoint()})
	}
	return v
}

// viewResources reads amounts that the head has checked; a size that cannot be read counts as none.
func viewResources(r *enginev1.Resources) resourcesView {
	memory, _ := engine.ParseSize(orZero(r.GetMemory()))
	gpuMemory, _ := engine.ParseSize(orZero(r.GetGpuMemory()))
	v := resourcesView{CPU: r.GetCpu(), GPU: r.GetGpu(), MemoryBytes: memory, GPUMemoryBytes: gpuMemory, Custom: r.GetCustom()}
	if v.Custom == nil {
		v.Custom = map[string]float64{}
	}
	return v
}

func orZero(size string) string {
	if size == "" {
		return "0"
	}
	return size
}

func viewNode(n *enginev1.Node) nodeView {
	v := nodeView{
		NodeID: n.GetNodeId(), Host: n.GetHost(), PID: n.GetPid(), State: strings.TrimPrefix(n.GetState().String(), "NODE_STATE_"),
		Total: viewResources(n.GetTotal()), Used: viewResources(n.GetUsed()), TasksRunning: n.GetTasksRunning(), Labels: n.GetLabels(),
		Version: n.GetVersion(), JoinTime: viewTime(n.GetJoinTime()), ReportTime: viewTime(n.GetReportTime()), Suspect: n.GetSuspect(),
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

func viewNodes(nodes []*enginev1.Node) []nodeView {
	views := make([]nodeView, len(nodes))
	for i, n := range nodes {
		views[i] = viewNode(n)
	}
	return views
}

func viewLog(l *enginev1.LogLine) logView {
	v := logView{Sequence: l.GetSequence(), Time: viewTime(l.GetTime()), Level: l.GetLevel(), Origin: l.GetOrigin(), Message: l.GetMessage(), Attributes: l.GetAttributes()}
	if v.Attributes == nil {
		v.Attributes = map[string]string{}
	}
	return v
}
