package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) memoryCommand() *cobra.Command {
	var top int
	cmd := &cobra.Command{
		Use:   "memory",
		Short: "Show what the object stores hold, for whom, and the largest objects",
		Long: `Memory shows for each node the size of its object store, what is used, read or being written now (pinned), and spilled, how much waits for
room, and how many objects were spilled and restored since the node started; then who keeps objects alive, and the largest objects.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if top < 1 || top > 10_000 {
				return usagef("--top %d: expected 1 to 10000", top)
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			stores, err := c.ObjectStores(cmd.Context())
			if err != nil {
				return err
			}
			largest, err := c.Objects(cmd.Context(), client.ObjectFilter{}, top)
			if err != nil {
				return err
			}
			view := viewMemory(stores, largest)
			return a.print(view, func(w io.Writer) error { return a.describeMemory(w, view) })
		},
	}
	cmd.Flags().IntVar(&top, "top", 10, "at most `N` of the largest objects")
	return cmd
}

func (a *app) describeMemory(w io.Writer, v memoryView) error {
	if len(v.Stores) == 0 {
		_, err := io.WriteString(w, "no object stores\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "node", ">capacity", ">used", ">pinned", ">spilled", ">waiting", ">objects", ">spills", ">restores")
	for _, s := range v.Stores {
		waiting := "0"
		if s.Waiting > 0 {
			waiting = count(s.Waiting) + " (" + engine.FormatSize(s.WaitingBytes) + ")"
		}
		t.AppendRow([]any{
			s.NodeID, engine.FormatSize(s.CapacityBytes), engine.FormatSize(s.UsedBytes) + share(s.UsedBytes, s.CapacityBytes), engine.FormatSize(s.PinnedBytes),
			engine.FormatSize(s.SpilledBytes), waiting, count(s.Objects), count(s.Spills), count(s.Restores),
		})
	}
	t.Render()
	if v.Objects == 0 {
		_, err := io.WriteString(w, "no objects\n")
		return engine.WrapError("print", "", err)
	}
	if len(v.Owners) > 0 {
		t = newTable(w, "owner", ">objects", ">size")
		for _, o := range v.Owners {
			t.AppendRow([]any{o.Owner, count(o.Objects), engine.FormatSize(o.SizeBytes)})
		}
		t.Render()
	}
	t = newTable(w, "object", ">size", "state", ">pins", ">age", "owner")
	for _, o := range v.Largest {
		t.AppendRow([]any{o.ObjectID, engine.FormatSize(o.SizeBytes), o.State, o.Pins, a.age(o.CreateTime), firstOf(o.ownerNames())})
	}
	t.Render()
	_, err := fmt.Fprintf(w, "%s, %s\n", plural(v.Objects, "object"), engine.FormatSize(v.TotalBytes))
	return engine.WrapError("print", "", err)
}

// share is a part of a whole in percent, with a space before it; nothing if there is no whole.
func share(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	const percent = 100
	return fmt.Sprintf(" %d%%", part*percent/whole)
}
