package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) listObjectsCommand() *cobra.Command {
	var limit int
	var owner, node string
	cmd := &cobra.Command{
		Use:   "objects",
		Short: "List objects, the largest first",
		Long: `Objects lists what the object stores of the cluster hold: each object once, with its state, how many readers map it now (pins), the node
of its primary copy and how many others have one, and who keeps it alive. An object without owners is deleted.`,
		Example: `  engine list objects --limit 20
  engine list objects --owner job/20261122-095900-7f3k2m9q
  engine list objects --owner pin/ -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return usagef("--limit %d: expected 1 to 10000", limit)
			}
			filter, err := objectFilter(owner, node)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			found, err := c.Objects(cmd.Context(), filter, limit)
			if err != nil {
				return err
			}
			view := viewObjects(found)
			return a.print(view, func(w io.Writer) error {
				if err := a.objectTable(w, view.Objects); err != nil || view.Total == 0 {
					return err
				}
				text := fmt.Sprintf("%s, %s\n", plural(view.Total, "object"), engine.FormatSize(view.TotalBytes))
				if more := view.Total - int64(len(view.Objects)); more > 0 {
					text = fmt.Sprintf("%s, %s in all; %s more are not shown (--limit)\n", plural(view.Total, "object"), engine.FormatSize(view.TotalBytes), count(more))
				}
				_, err := io.WriteString(w, text)
				return engine.WrapError("print", "", err)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "at most `N` objects")
	cmd.Flags().StringVar(&owner, "owner", "", "only objects of this owner: `KIND/ID` with session, task, job, or pin; KIND/ means any of the kind")
	cmd.Flags().StringVar(&node, "node", "", "only objects with a copy on the node with this `ID`")
	return cmd
}

// objectFilter reads --owner, whose id may be left out, and --node.
func objectFilter(owner, node string) (client.ObjectFilter, error) {
	filter := client.ObjectFilter{Node: engine.NodeID(node)}
	if owner == "" {
		return filter, nil
	}
	text := owner
	anyID := text[len(text)-1] == '/'
	if anyID {
		text += "any"
	}
	parsed, err := engine.ParseObjectOwner(text)
	if err != nil {
		return filter, usagef("--owner %s: expected session/, task/, job/, or pin/ and an id", owner)
	}
	filter.OwnerKind, filter.OwnerID = parsed.Kind, parsed.ID
	if anyID {
		filter.OwnerID = ""
	}
	return filter, nil
}

func (a *app) objectTable(w io.Writer, objects []objectView) error {
	if len(objects) == 0 {
		_, err := io.WriteString(w, "no objects\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "object", ">size", "state", ">rows", "holders", ">pins", ">age", "owner")
	for _, o := range objects {
		t.AppendRow([]any{
			o.ObjectID, engine.FormatSize(o.SizeBytes), o.State, count(o.Rows), firstOf(o.holderNames()), o.Pins, a.age(o.CreateTime), firstOf(o.ownerNames()),
		})
	}
	t.Render()
	return nil
}

// whenAgo is when something was, and how long ago that is, or nothing if that is not known.
func (a *app) whenAgo(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format("2006-01-02 15:04:05Z") + " (" + a.age(t) + " ago)"
}

// age is how long ago something was, or nothing if that is not known.
func (a *app) age(t *time.Time) string {
	if t == nil {
		return ""
	}
	return span(a.now().Sub(*t))
}
