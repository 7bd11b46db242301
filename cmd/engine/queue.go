package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Look at queues, make, change, and delete them",
		Long: `Queues share the cluster: while several have work, each gets room in proportion to its weight, and a queue of a higher priority comes
first whatever the weights. A job names its queue in the field queue; "default" is always there, and a queue that nobody has set has
weight 1 and no quota.`,
		Args: cobra.ArbitraryArgs,
		RunE: a.group,
	}
	cmd.AddCommand(a.queueListCommand(), a.queueSetCommand(), a.queueDeleteCommand())
	return cmd
}

// withClient runs f with a client of the head at a.address.
func (a *app) withClient(ctx context.Context, f func(*client.Client) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all calls have returned
	return f(c)
}

func (a *app) queueListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List queues with what they hold and what waits in them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				queues, err := c.Queues(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]queueView, len(queues))
				for i, q := range queues {
					views[i] = viewQueue(q)
				}
				return a.print(views, func(w io.Writer) error { return queueTable(w, views) })
			})
		},
	}
}

func (a *app) queueSetCommand() *cobra.Command {
	var weight float64
	var priority int32
	var maxPending int64
	var quota []string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a queue or change it",
		Long:  `Set makes a queue, or changes what the flags name of one that is there. Tasks that run over a new quota go on running.`,
		Example: `  engine queue set etl --weight 3
  engine queue set team/research --quota cpu=8,memory=64GiB --priority 10
  engine queue set etl --quota none`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := parseQuota(quota)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				queues, err := c.Queues(cmd.Context())
				if err != nil {
					return err
				}
				queue := &enginev1.Queue{Name: args[0]}
				for _, q := range queues {
					if q.GetQueue().GetName() == args[0] {
						queue = q.GetQueue()
					}
				}
				changed := cmd.Flags().Changed
				if changed("weight") {
					queue.Weight = weight
				}
				if changed("priority") {
					queue.Priority = priority
				}
				if changed("max-pending") {
					queue.MaxPending = maxPending
				}
				if changed("quota") {
					queue.Quota = limits
				}
				if err := c.SetQueue(cmd.Context(), queue); err != nil {
					return err
				}
				view := viewQueue(&enginev1.QueueStatus{Queue: queue}).queueSettings
				return a.print(view, func(w io.Writer) error {
					return fields(w, "queue", view.Name, "weight", number(view.Weight), "priority", strconv.Itoa(int(view.Priority)),
						"quota", view.quotaText(), "max pending", count(view.MaxPending))
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&weight, "weight", 1, "its share beside the other queues that have work: twice the `WEIGHT` gets twice the room")
	flags.Int32Var(&priority, "priority", 0, "a queue of a higher `PRIORITY` comes before all others")
	flags.StringSliceVar(&quota, "quota", nil, "what its tasks may hold at a time, `NAME=AMOUNT` with cpu, gpu, memory, gpu_memory, or a custom resource; none ends it")
	flags.Int64Var(&maxPending, "max-pending", defaultMaxPending, "how many tasks of clients may wait in it: `N`")
	return cmd
}

func (a *app) queueDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a queue that nothing waits or runs in",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				if err := c.DeleteQueue(cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.print(map[string]string{"deleted": args[0]}, func(w io.Writer) error {
					_, err := io.WriteString(w, args[0]+" deleted\n")
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}

// parseQuota reads pairs such as cpu=8 and memory=16GiB; nil means no quota.
func parseQuota(pairs []string) (*enginev1.Resources, error) {
	if len(pairs) == 0 || slices.Equal(pairs, []string{"none"}) {
		return nil, nil //nolint:nilnil // No quota is no message.
	}
	quota := &enginev1.Resources{}
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usagef("--quota %s: expected NAME=AMOUNT, such as cpu=8 or memory=16GiB", pair)
		}
		switch name {
		case "memory":
			quota.Memory = text
			continue
		case "gpu_memory":
			quota.GpuMemory = text
			continue
		}
		amount, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, usagef("--quota %s: %q is not a number", pair, text)
		}
		switch name {
		case "cpu":
			quota.Cpu = &amount
		case "gpu":
			quota.Gpu = amount
		default:
			if quota.Custom == nil {
				quota.Custom = map[string]float64{}
			}
			quota.Custom[name] = amount
		}
	}
	if _, err := rpc.ResourcesFromProto(quota); err != nil {
		return nil, usagef("--quota: %s", err)
	}
	return quota, nil
}

// What the head takes a queue to have that does not say otherwise.
const (
	defaultMaxPending  = 2_000_000
	defaultQueueWeight = 1
)

type queueSettings struct {
	Name       string         `json:"name"`
	Weight     float64        `json:"weight"`
	Priority   int32          `json:"priority"`
	Quota      *resourcesView `json:"quota"`
	MaxPending int64          `json:"max_pending"`
	quota      engine.Resources
}

type queueView struct {
	queueSettings
	Used         resourcesView `json:"used"`
	TasksPending int64         `json:"tasks_pending"`
	TasksRunning int64         `json:"tasks_running"`
	Jobs         int64         `json:"jobs"`
	Share        float64       `json:"share"`
	FairShare    float64       `json:"fair_share"`
}

func viewQueue(s *enginev1.QueueStatus) queueView {
	q := s.GetQueue()
	v := queueView{
		queueSettings: queueSettings{
			Name: q.GetName(), Weight: cmp.Or(q.GetWeight(), defaultQueueWeight), Priority: q.GetPriority(),
			MaxPending: cmp.Or(q.GetMaxPending(), defaultMaxPending),
		},
		Used: viewResources(s.GetUsed()), TasksPending: s.GetTasksPending(), TasksRunning: s.GetTasksRunning(), Jobs: s.GetJobs(),
		Share: s.GetShare(), FairShare: s.GetFairShare(),
	}
	if q.GetQuota() != nil {
		limits := viewResources(q.GetQuota())
		v.Quota = &limits
		v.quota, _ = rpc.ResourcesFromProto(q.GetQuota()) // The head took it.
	}
	return v
}

func (s queueSettings) quotaText() string {
	if s.Quota == nil {
		return "none"
	}
	return s.quota.String()
}

func queueTable(w io.Writer, queues []queueView) error {
	t := newTable(w, "queue", ">weight", ">priority", "quota", ">share", ">fair share", ">jobs", ">running", ">pending")
	for _, q := range queues {
		t.AppendRow([]any{
			q.Name, number(q.Weight), q.Priority, q.quotaText(), percent(q.Share), percent(q.FairShare), count(q.Jobs), count(q.TasksRunning), count(q.TasksPending),
		})
	}
	t.Render()
	return nil
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'f', 0, 64) + "%" }
