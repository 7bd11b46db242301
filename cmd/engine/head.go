package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) headCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "head",
		Short: "Take a head out of a cluster of several",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.headRemoveCommand())
	return cmd
}

func (a *app) headRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove HEAD|ADDRESS",
		Short: "Take a head that is gone for good out of the cluster",
		Long: `Remove takes a head out of a cluster of several, so that it does not count any more where more than half of the heads must agree. It is for
a head whose machine or data folder does not come back; one that only has to be restarted, or that starts with an empty folder at its old
address, needs no removal. A head that lives can be removed, too, and must be stopped then. A head that was removed comes back only as a
new one, with an empty data folder and --join.

The head that leads is not removed: stop it, and another one leads. Nor is one without which too few of the others would answer.`,
		Example: `  engine head remove 127.0.0.1:10021`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				heads, err := c.Heads(cmd.Context())
				if err != nil {
					return err
				}
				head, err := findHead(heads, args[0])
				if err != nil {
					return err
				}
				if err := c.RemoveHead(cmd.Context(), head.GetHeadId()); err != nil {
					return err
				}
				view := viewHeads([]*enginev1.HeadInfo{head})[0]
				return a.print(view, func(w io.Writer) error {
					text := fmt.Sprintf("%s at %s removed, %s left\n", view.ID, view.Address, plural(int64(len(heads)-1), "head"))
					if head.GetState() == enginev1.HeadState_HEAD_STATE_FOLLOWS {
						text += "it still runs: stop it\n"
					}
					_, err := io.WriteString(w, text)
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}

// findHead finds a head by its id or its address.
func findHead(heads []*enginev1.HeadInfo, name string) (*enginev1.HeadInfo, error) {
	for _, head := range heads {
		if head.GetHeadId() == name || head.GetAddress() == name {
			return head, nil
		}
	}
	return nil, engine.Errorf(engine.KindNotFound, "remove head", name, "the cluster has no such head").WithHint("`engine status` lists the heads")
}

// unknownHead is the state of a head of which nobody who leads was asked.
const unknownHead = "UNKNOWN"

func headState(s enginev1.HeadState) string {
	if s == enginev1.HeadState_HEAD_STATE_UNSPECIFIED {
		return unknownHead
	}
	return strings.TrimPrefix(s.String(), "HEAD_STATE_")
}
