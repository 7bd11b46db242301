package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/docgen"
)

// Exit codes. They are part of what users build on.
const (
	exitSucceeded   = 0
	exitFailed      = 1
	exitUsage       = 2
	exitStopped     = 3
	exitUnreachable = 4
	exitRefused     = 5
	exitInterrupted = 130
)

// exitCodes is for docs/reference/errors.md.
var exitCodes = []docgen.ExitCode{
	{Code: exitSucceeded, Meaning: "The command, or the job that it waited for, succeeded."},
	{Code: exitFailed, Meaning: "The job failed, whatever the kind of its error; or the command did, for a reason without a code of its own."},
	{Code: exitUsage, Meaning: "The command line or the job file is wrong. No job was made."},
	{Code: exitStopped, Meaning: "The job was stopped."},
	{Code: exitUnreachable, Meaning: "The head cannot be reached."},
	{Code: exitRefused, Meaning: "The head, or a data folder's owner, refused: permission, quota, or conflict. No job was made."},
	{Code: exitInterrupted, Meaning: "The command was interrupted. A job that it waited for goes on, except for that of `engine run`."},
}

// exitError ends the command with a code of its own. A nil err means that all is said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the user's mistake whatever its kind is: a job file that does not exist, a flag's value.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}

func usagef(format string, args ...any) error {
	return usage(fmt.Errorf(format, args...))
}

// kindExitCode is the one table of kinds and exit codes, for errors of calls. How a job ended is jobExitCode's.
func kindExitCode(kind engine.Kind) int {
	switch kind {
	case engine.KindInvalidArgument:
		return exitUsage
	case engine.KindStopped:
		return exitStopped
	case engine.KindUnavailable:
		return exitUnreachable
	case engine.KindPermission, engine.KindUnauthenticated, engine.KindConflict, engine.KindExhausted:
		return exitRefused
	case engine.KindCanceled:
		return exitInterrupted
	default:
		return exitFailed
	}
}

// jobExitCode is the exit code of a command that waited for a job.
func jobExitCode(state engine.JobState) int {
	switch state {
	case engine.JobSucceeded:
		return exitSucceeded
	case engine.JobStopped:
		return exitStopped
	default:
		return exitFailed
	}
}

func (a *app) exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitSucceeded
	case errors.As(err, &coded):
		return coded.code
	case !a.begun:
		return exitUsage
	default:
		return kindExitCode(engine.KindOf(err))
	}
}

// finish prints err, once and only here, and returns the exit code.
func (a *app) finish(err error) int {
	code := a.exitCode(err)
	var coded *exitError
	if errors.As(err, &coded) {
		err = coded.err
	}
	if err != nil {
		text, hints := explain(err)
		fmt.Fprintf(a.stderr, "error: %s\n", text)
		for _, hint := range hints {
			fmt.Fprintf(a.stderr, "  hint: %s\n", hint)
		}
	}
	return code
}

// explain takes an error apart: operations, things, and the cause in one text, and the hints, of which the outer is first.
func explain(err error) (text string, hints []string) {
	switch e := err.(type) { //nolint:errorlint // Each layer is looked at by itself; what wraps it otherwise is left whole.
	case *engine.Error:
		var b strings.Builder
		for _, part := range []string{e.Op, e.ID} {
			if part != "" {
				b.WriteString(part + ": ")
			}
		}
		if e.Hint != "" {
			hints = append(hints, e.Hint)
		}
		if e.Err == nil {
			b.WriteString(e.Kind.String())
			return b.String(), hints
		}
		inner, more := explain(e.Err)
		return b.String() + inner, append(hints, more...)
	case interface{ Unwrap() []error }:
		all := e.Unwrap()
		if len(all) != 1 {
			break
		}
		return explain(all[0])
	}
	// Cobra ends some messages with suggestions and an empty line.
	return strings.TrimSpace(err.Error()), nil
}
