package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) timelineCommand() *cobra.Command {
	var file, job string
	cmd := &cobra.Command{
		Use:   "timeline -f FILE",
		Short: "Save what tasks did on which node, for a viewer of traces",
		Long: `Timeline saves when the tasks that have ended began, where, and how long they ran, in Chrome's trace format: open the file at
ui.perfetto.dev or in chrome://tracing. There is a process for each node, and in it a thread for each task that ran at the same time as
others. The head remembers the latest 50,000 attempts since it began to lead.`,
		Example: "  engine timeline -f trace.json\n  engine timeline -f - --job 01H5Z | jq '.traceEvents | length'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("timeline: say where to with -f FILE; - is standard output")
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				if file == "-" {
					_, err := writeTimeline(cmd, c, job, a.stdout)
					return err
				}
				return a.saveTimeline(cmd, c, job, file)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "write to this `FILE`; - is standard output")
	cmd.Flags().StringVar(&job, "job", "", "only the tasks of the job with this `ID`")
	return cmd
}

// saveTimeline puts the file in place once it is complete.
func (a *app) saveTimeline(cmd *cobra.Command, c *client.Client, job, path string) error {
	failed := func(err error) error {
		return engine.Errorf(engine.KindInvalidArgument, "save timeline", path, "%w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".timeline-*")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // It is gone if all went well.
	n, err := writeTimeline(cmd, c, job, temporary)
	if closeErr := temporary.Close(); err == nil && closeErr != nil {
		err = failed(closeErr)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return failed(err)
	}
	if !a.quiet {
		_, err = fmt.Fprintf(a.stderr, "wrote %s to %s\n", plural(n, "event"), path)
	}
	return engine.WrapError("print", "", err)
}

func writeTimeline(cmd *cobra.Command, c *client.Client, job string, to io.Writer) (n int32, err error) {
	out := bufio.NewWriter(to)
	_, _ = out.WriteString(`{"displayTimeUnit":"ms","traceEvents":[`) // Flush tells of errors.
	err = c.Timeline(cmd.Context(), job, func(event string) error {
		if n > 0 {
			_ = out.WriteByte(',')
		}
		n++
		_, err := out.WriteString("\n" + event)
		return engine.WrapError("save timeline", "", err)
	})
	if err != nil {
		return n, err
	}
	_, _ = out.WriteString("\n]}\n")
	return n, engine.WrapError("save timeline", "", out.Flush())
}
