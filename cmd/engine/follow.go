package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/lifecycle"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// followOptions say how a command waits for a job.
type followOptions struct {
	// stopOnInterrupt makes the first interrupt stop the job, as run does; else it ends the waiting alone.
	stopOnInterrupt bool
	// logLines prints the job's log on standard error instead of its progress.
	logLines bool
	// logs is where this process's own log goes.
	logs *logWriter
}

// follow shows a job's progress until it has ended, and returns how. A second interrupt ends the process at once.
func (a *app) follow(ctx context.Context, job *client.Job, options followOptions) (client.Result, error) {
	signals, ignore := a.signals()
	defer ignore()
	if options.logs == nil {
		options.logs = &logWriter{out: a.stderr}
	}
	show := progress(noProgress{})
	if !options.logLines {
		show = a.newProgress(options.logs)
	}
	closed := false
	closeShow := func() {
		if !closed {
			closed = true
			show.close()
		}
	}
	defer closeShow()

	group := lifecycle.NewGroup(ctx, "follow")
	updates, watched, logged := make(chan *enginev1.Job), make(chan error, 1), make(chan struct{})
	group.Go("watch", func(ctx context.Context) error {
		watched <- job.Watch(ctx, func(j *enginev1.Job) error {
			select {
			case updates <- j:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		return nil
	})
	group.Go("log", func(ctx context.Context) error {
		defer close(logged)
		if options.logLines {
			if err := job.Logs(ctx, client.LogOptions{Follow: true}, func(l *enginev1.LogLine) error {
				return printLogLine(a.stderr, l)
			}); err != nil && ctx.Err() == nil {
				fmt.Fprintf(a.stderr, "the job's log broke off: %v\n", err)
			}
		}
		return nil
	})
	// Both goroutines end with the group's context.
	defer func() { _ = group.Stop(context.WithoutCancel(ctx)) }()

	var last *enginev1.Job
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	interrupted := 0
	for {
		select {
		case last = <-updates:
			show.show(a.now(), last)
		case <-ticker.C:
			show.tick(a.now())
		case <-signals:
			interrupted++
			if interrupted > 1 {
				closeShow()
				a.exitNow(exitInterrupted)
				return client.Result{}, &exitError{code: exitInterrupted}
			}
			if !options.stopOnInterrupt {
				closeShow()
				return client.Result{}, &exitError{code: exitInterrupted, err: engine.Errorf(engine.KindCanceled, "wait", string(job.ID()), "interrupted; the job goes on").
					WithHint("`engine job wait %[1]s` waits again, `engine job stop %[1]s` stops it", job.ID())}
			}
			fmt.Fprintln(options.logs, "stopping the job; interrupt again to exit at once")
			group.Go("stop", func(ctx context.Context) error {
				if _, err := job.Stop(ctx); err != nil && ctx.Err() == nil {
					fmt.Fprintf(options.logs, "stopping the job failed: %v\n", err)
				}
				return nil
			})
		case err := <-watched:
			if err != nil {
				closeShow()
				return client.Result{}, err
			}
			select {
			case <-logged:
			case <-time.After(5 * time.Second):
				// The log's last lines are worth a moment, not more.
			}
			closeShow()
			return client.NewResult(last), nil
		}
	}
}

// report prints a job's result: the object on standard output if one was asked for, the summary on standard error. It returns
// the error that gives the exit code.
func (a *app) report(r client.Result) error {
	if a.output != "table" {
		if err := a.print(viewResult(r), nil); err != nil {
			return err
		}
	}
	a.summary(a.stderr, r)
	code := jobExitCode(r.State)
	if code == exitSucceeded {
		return nil
	}
	var err error
	if r.Err != nil {
		err = r.Err
	}
	return &exitError{code: code, err: err}
}

// summary says in a few lines what a job did.
func (a *app) summary(w io.Writer, r client.Result) {
	if a.quiet {
		return
	}
	elapsed := time.Duration(r.Seconds * float64(time.Second))
	fmt.Fprintf(w, "job %s: %s in %s\n", r.JobID, r.State, span(elapsed))
	if r.CachedFrom != "" {
		fmt.Fprintf(w, "  cached   job %s has made the same; nothing was done again\n", r.CachedFrom)
	}
	idle := r.OnlyNew && r.State == engine.JobSucceeded && r.InputsRead == 0
	switch {
	case idle:
		fmt.Fprintf(w, "  nothing is new: earlier jobs have read %s\n", plural(r.InputsKnown, "input"))
	case r.OnlyNew:
		fmt.Fprintf(w, "  new      %s; %s left out\n", plural(r.InputsRead, "input"), count(r.InputsKnown))
	}
	if r.CachedFrom == "" && !idle && (r.RowsRead > 0 || r.State == engine.JobSucceeded) {
		rate := ""
		if r.Seconds > 0 {
			rate = fmt.Sprintf(" (%s/s)", plural(int64(float64(r.RowsRead)/r.Seconds), "row"))
		}
		fmt.Fprintf(w, "  read     %s, %s%s\n", plural(r.RowsRead, "row"), engine.FormatSize(r.BytesRead), rate)
		fmt.Fprintf(w, "  written  %s, %s, %s\n", plural(r.RowsWritten, "row"), engine.FormatSize(r.BytesWritten), plural(r.Batches, "batch"))
	}
	if r.TextsTruncated > 0 {
		fmt.Fprintf(w, "  cut      %s, to max_tokens or the model's own limit\n", plural(r.TextsTruncated, "text"))
	}
	if r.RowsFiltered > 0 {
		fmt.Fprintf(w, "  filtered %s\n", plural(r.RowsFiltered, "row"))
	}
	if r.RowsRejected > 0 {
		fmt.Fprintf(w, "  rejected %s\n", plural(r.RowsRejected, "row"))
	}
	if len(r.Outputs) > 0 {
		fmt.Fprintf(w, "  output   %s\n", summarizeOutputs(r.Outputs))
	}
}

// refused prints the result object of a job that never was, if one was asked for, and gives err back.
func (a *app) refused(err error) error {
	if err == nil || a.output == "table" {
		return err
	}
	v := viewResult(client.Result{})
	var coded *exitError
	cause := err
	if errors.As(err, &coded) && coded.err != nil {
		cause = coded.err
	}
	v.Error = viewError(cause)
	if printErr := a.print(v, nil); printErr != nil {
		return errors.Join(err, printErr)
	}
	return err
}

// interrupts returns a context that the first interrupt ends, for commands that only read.
func (a *app) interrupts(ctx context.Context) (context.Context, func()) {
	signals, ignore := a.signals()
	ctx, cancel := context.WithCancel(ctx)
	group := lifecycle.NewGroup(ctx, "interrupts")
	group.Go("signals", func(ctx context.Context) error {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
		return nil
	})
	return ctx, func() {
		ignore()
		cancel()
		_ = group.Stop(context.WithoutCancel(ctx)) // its one goroutine ends with ctx
	}
}

// folderOf is the output folder of a file, given by its path or its URI: the one that holds its folders key=value, if it lies in such.
func folderOf(file string) string {
	for {
		file = file[:max(0, strings.LastIndex(file, "/"))]
		if name := file[strings.LastIndex(file, "/")+1:]; strings.Index(name, "=") <= 0 {
			return file
		}
	}
}

// shownFolders is how many output folders a summary names.
const shownFolders = 3

// foldersOf names the output folders of files.
func foldersOf(files []string) string {
	var folders []string
	for _, file := range files {
		if folder := folderOf(file); !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	if n := len(folders); n > shownFolders {
		return fmt.Sprintf("%s, and %d more", strings.Join(folders[:shownFolders], ", "), n-shownFolders)
	}
	return strings.Join(folders, ", ")
}

// summarizeOutputs says where the outputs of a job are: files, or objects by their references.
func summarizeOutputs(outputs []string) string {
	first := outputs[0]
	switch _, err := engine.ParseObjectRef(first); {
	case err != nil:
		return fmt.Sprintf("%s (%s)", foldersOf(outputs), plural(len(outputs), "file"))
	case len(outputs) == 1:
		return first
	default:
		return fmt.Sprintf("%s and others (%s)", first, plural(len(outputs), "object"))
	}
}
