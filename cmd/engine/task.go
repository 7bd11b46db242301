package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) taskCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "task",
		Short: "Work with tasks of clients",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.taskCancelCommand())
	return cmd
}

func (a *app) taskCancelCommand() *cobra.Command {
	var options client.CancelOptions
	cmd := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel tasks of clients",
		Long: `Cancel ends tasks that have not ended, whoever has submitted them. Tasks that wait for their outputs fail. The tasks of a job end with it:
engine job stop.`,
		Example: `  engine task cancel 3f2a9c7be1d04486a5c0f7e2b9d80000 --children`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := taskIDs(args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				n, err := c.CancelTasks(cmd.Context(), options, ids...)
				if err != nil {
					return err
				}
				return a.print(map[string]int64{"cancelled": n}, func(w io.Writer) error {
					text := plural(n, "task") + " cancelled\n"
					if others := int64(len(ids)) - n; others > 0 {
						text = fmt.Sprintf("%s cancelled; %s had ended, or nobody knows them\n", plural(n, "task"), count(others))
					}
					_, err := io.WriteString(w, text)
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&options.Children, "children", false, "also the tasks that they have submitted, and those that these have")
	cmd.Flags().BoolVar(&options.Force, "force", false, "do not wait for what runs to return")
	return cmd
}
