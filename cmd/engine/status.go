package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the cluster: its nodes, what they offer and use, and its jobs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			a.warnOfCertificate()
			cluster, err := c.Cluster(ctx)
			if err != nil {
				return err
			}
			nodes, err := c.Nodes(ctx)
			if err != nil {
				return err
			}
			heads, err := c.Heads(ctx)
			if err != nil {
				return err
			}
			view := clusterView{
				ClusterID: cluster.GetClusterId(), Address: a.address, Web: cluster.GetWeb(), Version: cluster.GetVersion(),
				StartTime: viewTime(cluster.GetStartTime()), Total: viewResources(cluster.GetTotal()), Used: viewResources(cluster.GetUsed()),
				NodesAlive: cluster.GetNodesAlive(), Nodes: viewNodes(nodes), Heads: viewHeads(heads), Jobs: cluster.GetJobs(),
				TasksPending: cluster.GetTasksPending(), TasksRunning: cluster.GetTasksRunning(),
			}
			if view.StartTime != nil {
				view.UptimeSeconds = a.now().Sub(*view.StartTime).Round(time.Second).Seconds()
			}
			if view.Jobs == nil {
				view.Jobs = map[string]int64{}
			}
			return a.print(view, func(w io.Writer) error { return a.describeCluster(w, view) })
		},
	}
}

func (a *app) describeCluster(w io.Writer, v clusterView) error {
	up := ""
	if v.StartTime != nil {
		up = span(a.now().Sub(*v.StartTime))
	}
	var jobs []string
	for _, s := range jobStates {
		if n := v.Jobs[string(s)]; n > 0 {
			jobs = append(jobs, count(n)+" "+strings.ToLower(string(s)))
		}
	}
	if len(jobs) == 0 {
		jobs = []string{"none"}
	}
	used := fmt.Sprintf("cpu %s/%s", number(v.Used.CPU), number(v.Total.CPU))
	if v.Total.GPU > 0 {
		used += fmt.Sprintf(", gpu %s/%s", number(v.Used.GPU), number(v.Total.GPU))
	}
	if v.Total.MemoryBytes > 0 {
		used += ", memory " + sizes(v.Used.MemoryBytes, v.Total.MemoryBytes)
	}
	if err := fields(w,
		"cluster", v.ClusterID,
		"head", v.leader(),
		"heads", v.heads(),
		"web", v.Web,
		"version", v.Version,
		"up", up,
		"used", used,
		"tasks", fmt.Sprintf("%s running, %s pending", count(v.TasksRunning), count(v.TasksPending)),
		"jobs", strings.Join(jobs, ", "),
		"nodes", fmt.Sprintf("%d alive", v.NodesAlive),
	); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return engine.WrapError("print", "", err)
	}
	return nodeTable(w, v.Nodes)
}

// leader is where the head that leads is reached.
func (v clusterView) leader() string {
	for _, head := range v.Heads {
		if head.Leader && len(v.Heads) > 1 {
			return head.Address
		}
	}
	return v.Address
}

// heads lists the heads, one a line, if there are several.
func (v clusterView) heads() string {
	if len(v.Heads) < 2 {
		return ""
	}
	var lines []string
	for _, head := range v.Heads {
		line := head.Address + "  " + head.ID
		switch {
		case head.Leader:
			line += "  leads"
		case head.State != unknownHead:
			line += "  " + strings.ToLower(head.State)
		}
		if !head.Voter {
			line += "  has no vote yet"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
