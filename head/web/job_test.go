package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/web"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// one is the only job there is.
type one struct {
	job *enginev1.Job
	log []*enginev1.LogLine
	err error
}

func (o one) ReadJob(_ context.Context, id string, lines int) (*enginev1.Job, []*enginev1.LogLine, int, error) {
	switch {
	case o.err != nil:
		return nil, nil, 0, o.err
	case id == "" || id != o.job.GetJobId() && id != o.job.GetSubmissionId():
		return nil, nil, 0, engine.Errorf(engine.KindNotFound, "show job", id, "no such job")
	}
	over := max(0, len(o.log)-lines)
	return o.job, o.log[over:], over, nil
}

func get(t *testing.T, jobs web.Jobs, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler := http.NewServeMux()
	web.Register(handler, func() bool { return true }, http.NotFoundHandler(), jobs)
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return recorder
}

func TestJobPage(t *testing.T) {
	failed := &enginev1.Job{
		JobId: "20261127-140000-abcdefgh", SubmissionId: "airflow/wine/score/run@1", Name: "wine <b>", State: enginev1.JobState_JOB_STATE_FAILED,
		SubmitTime: timestamppb.Now(), EndTime: timestamppb.Now(), Labels: map[string]string{"team": "wine"},
		Error: &enginev1.Error{
			Kind: "data", Operation: "read csv", Id: "wine.csv:7", Message: `column "ph": "<script>" is no number`, Hint: "set on_bad_row",
		},
		Progress: &enginev1.JobProgress{TasksTotal: 4, TasksDone: 3, RowsRead: 120, RowsWritten: 90},
		Outputs:  []*enginev1.OutputFile{{Path: "/out/part-0.parquet", Rows: 90, SizeBytes: 7_000}},
	}
	log := []*enginev1.LogLine{{
		Sequence: 1, Time: timestamppb.Now(), Level: "ERROR", Origin: "head", Message: "job failed", Attributes: map[string]string{"error": "<i>"},
	}}
	jobs := one{job: failed, log: log}
	for _, path := range []string{"/jobs/20261127-140000-abcdefgh", "/jobs/airflow/wine/score/run@1"} {
		answer := get(t, jobs, path)
		page := answer.Body.String()
		if answer.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, answer.Code, page)
		}
		for _, wanted := range []string{
			"wine &lt;b&gt;", "FAILED", "airflow/wine/score/run@1", "team=wine", "read csv: wine.csv:7", "&lt;script&gt;", "set on_bad_row", "3 of 4 done",
			"/out/part-0.parquet", "90 rows, 7000 bytes", "job failed error=&lt;i&gt;",
		} {
			if !strings.Contains(page, wanted) {
				t.Errorf("%s: the page does not have %q:\n%s", path, wanted, page)
			}
		}
		if strings.Contains(page, `http-equiv="refresh"`) || strings.Contains(page, "<script") {
			t.Errorf("the page of a job that has ended is read again, or has a script:\n%s", page)
		}
		if policy := answer.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("content security policy %q", policy)
		}
	}

	running := one{job: &enginev1.Job{JobId: "j", State: enginev1.JobState_JOB_STATE_PENDING, Reason: "no node has 4 cores"}}
	for range 1_200 {
		running.log = append(running.log, &enginev1.LogLine{Message: "line"})
	}
	page := get(t, running, "/jobs/j").Body.String()
	for _, wanted := range []string{`http-equiv="refresh"`, "(no node has 4 cores)", "200 earlier lines"} {
		if !strings.Contains(page, wanted) {
			t.Errorf("the page does not have %q", wanted)
		}
	}
}

func TestJobPageIsRefused(t *testing.T) {
	known := &enginev1.Job{JobId: "j"}
	for path, c := range map[string]struct {
		err    error
		status int
	}{
		"/jobs/other": {nil, http.StatusNotFound},
		"/jobs/j":     {engine.Errorf(engine.KindUnavailable, "ask head", "", "head b leads"), http.StatusServiceUnavailable},
		"/jobs/":      {nil, http.StatusNotFound},
	} {
		answer := get(t, one{job: known, err: c.err}, path)
		if answer.Code != c.status || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
}
