package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) jobLogsCommand() *cobra.Command {
	var followLog bool
	var after uint64
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print a job's log",
		Long: `Logs prints the lines of a job's log on standard output, in order. With -o json each line is a JSON object on a line of its own;
with -o yaml, a document.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, done := a.interrupts(cmd.Context())
			defer done()
			return a.withJob(ctx, args[0], func(ctx context.Context, job *client.Job) error {
				return job.Logs(ctx, client.LogOptions{After: after, Follow: followLog}, func(l *enginev1.LogLine) error {
					return a.printLog(l)
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&followLog, "follow", "f", false, "wait for further lines until the job has ended")
	cmd.Flags().Uint64Var(&after, "after", 0, "print lines with a sequence number above this")
	return cmd
}

func (a *app) printLog(l *enginev1.LogLine) error {
	switch a.output {
	case "json":
		line, err := json.Marshal(viewLog(l))
		if err != nil {
			return engine.Errorf(engine.KindInternal, "print", "", "%w", err)
		}
		_, err = a.stdout.Write(append(line, '\n'))
		return engine.WrapError("print", "", err)
	case "yaml":
		document, err := encode(viewLog(l), "yaml")
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(append([]byte("---\n"), document...))
		return engine.WrapError("print", "", err)
	default:
		return printLogLine(a.stdout, l)
	}
}

// printLogLine writes "2026-11-22T10:00:00.123Z INFO worker-7f3k2m9q message key=value". Control characters of a message,
// which may come from a data file, do not reach the terminal.
func printLogLine(w io.Writer, l *enginev1.LogLine) error {
	var b strings.Builder
	b.WriteString(l.GetTime().AsTime().Format("2006-01-02T15:04:05.000Z"))
	for _, part := range []string{l.GetLevel(), l.GetOrigin(), l.GetMessage()} {
		b.WriteString(" " + printable(part))
	}
	for _, name := range slices.Sorted(maps.Keys(l.GetAttributes())) {
		value := l.GetAttributes()[name]
		if value == "" || strings.ContainsAny(value, " =\"") {
			value = strconv.Quote(value)
		}
		b.WriteString(" " + printable(name) + "=" + printable(value))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return engine.WrapError("print", "", err)
}

func printable(text string) string {
	clean := func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
	if !strings.ContainsFunc(text, clean) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if clean(r) {
			return ' '
		}
		return r
	}, text)
}
