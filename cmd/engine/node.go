package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Look at the cluster's nodes, let one join or leave",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	list := a.listNodesCommand()
	list.Use = "list"
	cmd.AddCommand(list, a.nodeDrainCommand(), a.nodeTokenCommand(), a.nodeCertificatesCommand(), a.nodeRevokeCommand())
	return cmd
}

func (a *app) nodeDrainCommand() *cobra.Command {
	var within, reason string
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Let a node finish what it has, and leave",
		Long: `Drain gives a node nothing new. It finishes the tasks that it has, moves its objects to other nodes, and leaves. The command returns when
the node knows; engine node list shows it DRAINING, and DEAD when it has left. A drain outlives the head. Draining a node again changes
the limit.`,
		Example: `  engine node drain host-7f3k2m9q --within 10m --reason "new kernel"`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			var limit time.Duration
			if within != "" {
				var err error
				if limit, err = jobplan.ParseDuration(within); err != nil || limit <= 0 {
					return usagef("--within %s: expected a duration above zero, such as 90s or 10m", within)
				}
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				drained, err := c.DrainNode(cmd.Context(), engine.NodeID(args[0]), limit, reason)
				if err != nil {
					return err
				}
				view := viewNodes([]*enginev1.Node{drained})[0]
				return a.print(view, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s %s, %s\n", view.NodeID, view.State, plural(view.TasksRunning, "task"))
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
	cmd.Flags().StringVar(&within, "within", "", "after this `DURATION`, what still runs is given back and runs elsewhere; default: no limit")
	cmd.Flags().StringVar(&reason, "reason", "", "a `TEXT` for the node's log")
	return cmd
}
