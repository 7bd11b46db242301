package main

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
)

func (a *app) listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what a cluster consists of",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.listNodesCommand(), a.listObjectsCommand(), a.listTasksCommand())
	return cmd
}

func (a *app) listNodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List nodes that are connected, or were within the last hour",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			nodes, err := c.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			views := viewNodes(nodes)
			return a.print(views, func(w io.Writer) error { return nodeTable(w, views) })
		},
	}
}

func nodeTable(w io.Writer, nodes []nodeView) error {
	if len(nodes) == 0 {
		_, err := io.WriteString(w, "no nodes\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "node", "host", "pid", "state", ">cpu used/total", ">gpu", ">memory", ">tasks", "version", "labels")
	for _, n := range nodes {
		state := n.State
		if n.Suspect {
			state += " (suspect)"
		}
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(n.Labels)) {
			labels = append(labels, name+"="+n.Labels[name])
		}
		t.AppendRow([]any{
			n.NodeID, n.Host, n.PID, state, number(n.Used.CPU) + "/" + number(n.Total.CPU), amounts(n.Used.GPU, n.Total.GPU),
			sizes(n.Used.MemoryBytes, n.Total.MemoryBytes), n.TasksRunning, n.Version, strings.Join(labels, " "),
		})
	}
	t.SuppressEmptyColumns()
	t.Render()
	return nil
}

// amounts is "used/total", or nothing of what a node does not have.
func amounts(used, total float64) string {
	if total == 0 {
		return ""
	}
	return number(used) + "/" + number(total)
}

func sizes(used, total int64) string {
	if total == 0 {
		return ""
	}
	return engine.FormatSize(used) + "/" + engine.FormatSize(total)
}
