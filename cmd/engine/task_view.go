package main

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

type taskView struct {
	// TaskID is the id of a client's task, or the job and the place in its plan of a job's.
	TaskID       string        `json:"task_id"`
	Name         string        `json:"name"`
	Operator     string        `json:"operator"`
	State        string        `json:"state"`
	Reason       string        `json:"reason"`
	Queue        string        `json:"queue"`
	Resources    resourcesView `json:"resources"`
	NodeID       string        `json:"node_id"`
	Attempts     int32         `json:"attempts"`
	SubmitTime   *time.Time    `json:"submit_time"`
	StartTime    *time.Time    `json:"start_time"`
	EndTime      *time.Time    `json:"end_time"`
	Error        *errorView    `json:"error"`
	SessionID    string        `json:"session_id"`
	ParentTaskID string        `json:"parent_task_id"`
	Hanging      bool          `json:"hanging"`
	Done         float64       `json:"done"`
	Total        float64       `json:"total"`
	JobID        string        `json:"job_id"`
	// wire is what -o table reads of resources.
	wire *enginev1.Resources
}

type tasksView struct {
	Tasks []taskView `json:"tasks"`
	Total int64      `json:"total"`
}

type taskSummaryView struct {
	Name         string           `json:"name"`
	Operator     string           `json:"operator"`
	States       map[string]int64 `json:"states"`
	MeanSeconds  float64          `json:"mean_seconds"`
	AttemptsLost int64            `json:"attempts_lost"`
	Reason       string           `json:"reason"`
}

func viewTask(t *enginev1.Task) taskView {
	v := taskView{
		TaskID: hex.EncodeToString(t.GetTaskId()), Name: t.GetName(), Operator: t.GetOperator(), State: string(rpc.TaskStateFromProto(t.GetState())),
		Reason: t.GetReason(), Queue: t.GetQueue(), Resources: viewResources(t.GetResources()), NodeID: t.GetNodeId(), Attempts: t.GetAttempts(),
		SubmitTime: viewTime(t.GetSubmitTime()), StartTime: viewTime(t.GetStartTime()), EndTime: viewTime(t.GetEndTime()), Error: viewWireError(t.GetError()),
		SessionID: t.GetSessionId(), ParentTaskID: hex.EncodeToString(t.GetParentTaskId()), Hanging: t.GetHanging(), Done: t.GetDone(), Total: t.GetTotal(),
		JobID: t.GetJobId(), wire: t.GetResources(),
	}
	if v.JobID != "" {
		v.TaskID = v.JobID + "/" + strconv.Itoa(int(t.GetIndex()))
	}
	return v
}

func viewTasks(r *enginev1.ListTasksResponse) tasksView {
	v := tasksView{Tasks: make([]taskView, len(r.GetTasks())), Total: r.GetTotal()}
	for i, t := range r.GetTasks() {
		v.Tasks[i] = viewTask(t)
	}
	return v
}

func viewTaskSummaries(summaries []*enginev1.TaskSummary) []taskSummaryView {
	views := make([]taskSummaryView, len(summaries))
	for i, s := range summaries {
		views[i] = taskSummaryView{
			Name: s.GetName(), Operator: s.GetOperator(), States: s.GetStates(), MeanSeconds: time.Duration(s.GetMeanRunNanos()).Seconds(),
			AttemptsLost: s.GetAttemptsLost(), Reason: s.GetReason(),
		}
		if views[i].States == nil {
			views[i].States = map[string]int64{}
		}
	}
	return views
}

// progress is how far the task says that it is, and whether it has gone quiet.
func (v taskView) progress() string {
	text := ""
	switch {
	case v.Total > 0:
		text = number(v.Done) + " of " + number(v.Total)
	case v.Done > 0:
		text = number(v.Done)
	}
	if v.Hanging {
		text = strings.TrimPrefix(text+", hangs: it has reported nothing for too long", ", ")
	}
	return text
}

// ran is how long the last attempt took, or has taken.
func (a *app) ran(v taskView) string {
	switch {
	case v.StartTime == nil:
		return ""
	case v.EndTime == nil:
		return span(a.now().Sub(*v.StartTime))
	default:
		return span(v.EndTime.Sub(*v.StartTime))
	}
}

// taskIDs reads the ids of tasks of clients.
func taskIDs(texts []string) ([]engine.TaskUID, error) {
	ids := make([]engine.TaskUID, len(texts))
	for i, text := range texts {
		id, err := engine.ParseTaskUID(text)
		if err != nil {
			return nil, usagef("%q is not a task's id: expected 32 hexadecimal digits that end in 0000; the tasks of a job are in `engine job status`", text)
		}
		ids[i] = id
	}
	return ids, nil
}
