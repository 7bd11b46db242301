package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// joinTokenView is a token to join with.
type joinTokenView struct {
	ID   string `json:"token_id"`
	Role string `json:"role"`
	// Token is there only when it is made.
	Token       string    `json:"token,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Ends        time.Time `json:"ends"`
	State       string    `json:"state"`
	UsesLeft    int32     `json:"uses_left,omitempty"`
}

func viewJoinToken(t *enginev1.JoinToken) joinTokenView {
	v := joinTokenView{ID: t.GetTokenId(), Role: t.GetRole(), Ends: t.GetExpireTime().AsTime(), State: "GOOD", UsesLeft: t.GetUsesLeft()}
	switch {
	case t.GetRevoked():
		v.State = "REVOKED"
	case t.GetUsedUp():
		v.State = "USED"
	}
	return v
}

func (a *app) nodeTokenCommand() *cobra.Command {
	var role, life string
	var uses int32
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token by which nodes of other machines join",
		Long: `Token makes a token and prints it once: a node that is started with it gets a certificate and is one of the cluster. Whoever has the token
can join until it ends. With --role head the node gets the cluster's authority, too, and can do all that this head can.`,
		Example: `  engine node token
  engine node token --role head --uses 1 --life 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := jobplan.ParseDuration(life)
			if err != nil || limit < time.Second {
				return usagef("--life %s: expected a duration of at least 1s, such as 10m or 12h", life)
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				made, err := c.CreateJoinToken(cmd.Context(), &enginev1.CreateJoinTokenRequest{Role: role, LifeSeconds: int64(limit / time.Second), Uses: uses})
				if err != nil {
					return err
				}
				view := viewJoinToken(made.GetInfo())
				view.Token, view.Fingerprint = made.GetToken(), made.GetFingerprint()
				return a.print(view, func(w io.Writer) error {
					a.notef("a %s joins with this until %s; the cluster's authority is sha256:%s", view.Role, view.Ends.Local().Format(time.DateTime), view.Fingerprint)
					_, err := fmt.Fprintln(w, view.Token)
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "worker", "what may join by it, a `ROLE`: worker or head")
	cmd.Flags().StringVar(&life, "life", "1h", "how long it is good, a `DURATION` such as 10m or 12h, 30d at most")
	cmd.Flags().Int32Var(&uses, "uses", 0, "how many nodes may join by it, `N`; default: any number")
	cmd.AddCommand(a.nodeTokenListCommand(), a.nodeTokenRevokeCommand())
	return cmd
}

func (a *app) nodeTokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens to join with that have not ended",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				tokens, err := c.JoinTokens(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]joinTokenView, len(tokens))
				for i, t := range tokens {
					views[i] = viewJoinToken(t)
				}
				return a.print(views, func(w io.Writer) error {
					t := newTable(w, "token", "role", "state", "ends")
					for _, v := range views {
						t.AppendRow([]any{v.ID, v.Role, v.State, v.Ends.Local().Format(time.DateTime)})
					}
					t.Render()
					return nil
				})
			})
		},
	}
}

func (a *app) nodeTokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke TOKEN",
		Short:   "End a token to join with, by its id; what has joined stays",
		Example: `  engine node token revoke 5a0f2c4e9b1d`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				if err := c.RevokeJoinToken(cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.print(map[string]string{"token_id": args[0]}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s revoked\n", args[0])
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}

// certificateView is a node's certificate.
type certificateView struct {
	Name    string     `json:"name"`
	Role    string     `json:"role"`
	Serial  string     `json:"serial"`
	Signed  time.Time  `json:"signed"`
	Ends    time.Time  `json:"ends"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

func viewCertificates(certs []*enginev1.NodeCertificate) []certificateView {
	views := make([]certificateView, len(certs))
	for i, c := range certs {
		views[i] = certificateView{Name: c.GetName(), Role: c.GetRole(), Serial: c.GetSerial(), Signed: c.GetCreateTime().AsTime(), Ends: c.GetExpireTime().AsTime()}
		if c.GetRevokeTime() != nil {
			at := c.GetRevokeTime().AsTime()
			views[i].Revoked = &at
		}
	}
	slices.SortStableFunc(views, func(a, b certificateView) int { return strings.Compare(a.Name, b.Name) })
	return views
}

func writeCertificates(w io.Writer, views []certificateView) error {
	t := newTable(w, "node", "role", "state", "ends", "serial")
	for _, v := range views {
		state := "GOOD"
		if v.Revoked != nil {
			state = "REVOKED"
		}
		t.AppendRow([]any{v.Name, v.Role, state, v.Ends.Local().Format(time.DateTime), v.Serial})
	}
	t.Render()
	return nil
}

func (a *app) nodeCertificatesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "certificates",
		Short: "List the certificates of nodes that have joined",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				certs, err := c.Certificates(cmd.Context())
				if err != nil {
					return err
				}
				views := viewCertificates(certs)
				return a.print(views, func(w io.Writer) error { return writeCertificates(w, views) })
			})
		},
	}
}

func (a *app) nodeRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NODE",
		Short: "Make a node's certificates void, at once",
		Long: `Revoke makes every certificate of a node void: all other nodes close their connections to it, and accept no new ones. Its tasks run
elsewhere once its lease has ended. The node is named as in engine node certificates, or by its id as in engine node list. It can join again
with a new token.`,
		Example: `  engine node revoke host-7f3k2m9q`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				certs, err := c.RevokeNode(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				views := viewCertificates(certs)
				return a.print(views, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s revoked, %s\n", args[0], plural(int64(len(views)), "certificate"))
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}
