package web

import (
	"bytes"
	"context"
	_ "embed"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Jobs is where the pages read of jobs. It is safe for concurrent use.
type Jobs interface {
	// ReadJob returns a job by its id or submission id, with the last lines of its log, at most that many, and how many came before them.
	// The errors are those of JobService, and KindUnavailable if another head leads.
	ReadJob(ctx context.Context, id string, lines int) (job *enginev1.Job, log []*enginev1.LogLine, earlier int, err error)
}

const (
	// maxPageLines is how many lines of a job's log a page shows.
	maxPageLines = 1_000
	// maxPageOutputs is how many output files a page names.
	maxPageOutputs = 100
	// readWithin bounds the reading of a page's content.
	readWithin = 10 * time.Second
)

//go:embed job.html
var jobHTML string

var jobPage = template.Must(template.New("job").Funcs(template.FuncMap{
	"when": func(t *timestamppb.Timestamp) string {
		if t == nil {
			return ""
		}
		return t.AsTime().UTC().Format("2006-01-02 15:04:05.000 MST")
	},
	"state": func(s enginev1.JobState) string { return strings.TrimPrefix(s.String(), "JOB_STATE_") },
	"pairs": func(pairs map[string]string) string {
		var texts []string
		for _, name := range slices.Sorted(maps.Keys(pairs)) {
			texts = append(texts, name+"="+pairs[name])
		}
		return strings.Join(texts, " ")
	},
}).Parse(jobHTML))

// content is what a job's page shows.
type content struct {
	*enginev1.Job
	Lines           []*enginev1.LogLine
	Earlier         int
	Shown           []*enginev1.OutputFile
	OutputsNotShown int
	// Goes says that the job has not ended, so that the page is read again.
	Goes bool
}

// serveJob answers with a page about one job: its state, counts, error, outputs, and log. It needs no script.
func serveJob(jobs Jobs) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readWithin)
		defer cancel()
		job, lines, earlier, err := jobs.ReadJob(ctx, r.PathValue("id"), maxPageLines)
		if err != nil {
			refuse(w, err)
			return
		}
		page := content{Job: job, Lines: lines, Earlier: earlier, Shown: job.GetOutputs(), Goes: job.GetEndTime() == nil}
		if more := len(page.Shown) - maxPageOutputs; more > 0 {
			page.Shown, page.OutputsNotShown = page.Shown[:maxPageOutputs], more
		}
		var body bytes.Buffer
		if err := jobPage.Execute(&body, page); err != nil {
			refuse(w, engine.Errorf(engine.KindInternal, "show job", job.GetJobId(), "%w", err))
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		// Beside what the port answers with in any case, its own styles.
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		_, _ = w.Write(body.Bytes()) // A client that has gone away cannot be told.
	}
}

// refuse says in plain text why there is no page.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch engine.KindOf(err) {
	case engine.KindNotFound:
		status = http.StatusNotFound
	case engine.KindPermission:
		status = http.StatusForbidden
	case engine.KindUnavailable, engine.KindDeadline, engine.KindCanceled:
		status = http.StatusServiceUnavailable
	case engine.KindInvalidArgument:
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(err.Error() + "\n"))
}
