package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list, and revoke the tokens by which callers say who they are",
		Long: `A token says who calls, and which role and queues that gives. Its text is printed once, when it is made; the cluster keeps a hash of
it. A client shows it with --token, or takes it from $ENGINE_TOKEN or from the file that $ENGINE_TOKEN_FILE names.

The roles, of which each but the last has what the ones before it have: viewer looks, submit also runs jobs and tasks, operate also changes
queues, drains nodes, and forgets jobs, admin also makes tokens and takes heads in and out. worker is for one worker alone: the token has the
name of its node, which is that of its host unless --name gave another, and with more of them a slash and anything, as in gpu-1/2027.`,
		Args: cobra.ArbitraryArgs,
		RunE: a.group,
	}
	cmd.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return cmd
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var role, ttl, file string
	var queues []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token and print its text, once",
		Example: `  engine token create airflow --role operate --queues etl --ttl 30d
  engine token create dashboards --role viewer --file dashboards.token
  engine token create team-research --role operate --queues 'research/*'
  engine token create gpu-1 --role worker --file gpu-1.token`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				var out *os.File
				if file != "" {
					// Before there is a token that would be lost.
					var err error
					if out, err = newTokenFile(file); err != nil {
						return err
					}
				}
				made, err := c.CreateToken(cmd.Context(), &enginev1.CreateTokenRequest{Name: args[0], Role: role, Queues: queues, Ttl: ttl})
				if out != nil {
					err = finishTokenFile(out, made.GetText(), err)
				}
				if err != nil {
					return err
				}
				view := createdToken{tokenView: a.viewToken(made.GetToken()), Text: made.GetText(), File: file}
				if file != "" {
					view.Text = ""
				}
				return a.print(view, func(w io.Writer) error {
					if file != "" {
						_, err := fmt.Fprintf(w, "token %s of role %s is in %s\n", view.Name, view.Role, file)
						return engine.WrapError("print", "", err)
					}
					a.notef("token %s of role %s for queues %s, %s; this is the only time that its text is shown", view.Name, view.Role, strings.Join(view.Queues, ","), view.ends())
					_, err := io.WriteString(w, view.Text+"\n")
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "submit", "what it gives, a `ROLE`: viewer, submit, operate, admin, or worker")
	flags.StringSliceVar(&queues, "queues", nil, "the queues whose jobs, tasks, logs, and objects it gives, `NAME` or a beginning such as 'team/*'; default: all")
	flags.StringVar(&ttl, "ttl", "90d", "how long it holds, a `DURATION` such as 12h or 30d, or never")
	flags.StringVar(&file, "file", "", "write the text to this `FILE`, which only you may read, instead of printing it")
	return cmd
}

// newTokenFile makes the file of a token. One that is there already is left alone.
func newTokenFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, usage(engine.Errorf(engine.KindInvalidArgument, "write token", "", "%w", err))
	}
	return file, nil
}

// finishTokenFile writes a token's text, or removes the file if there is none.
func finishTokenFile(file *os.File, text string, err error) error {
	if err == nil {
		_, err = file.WriteString(text + "\n")
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(file.Name()) // It holds no token.
	}
	return err
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens, those that have ended for 30 days more",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				tokens, err := c.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]tokenView, len(tokens))
				for i, t := range tokens {
					views[i] = a.viewToken(t)
				}
				return a.print(views, func(w io.Writer) error {
					t := newTable(w, "name", "id", "role", "queues", "state", "made", "made by", "ends")
					for _, v := range views {
						t.AppendRow([]any{v.Name, v.ID, v.Role, strings.Join(v.Queues, ","), v.State, v.Made, v.MadeBy, v.ends()})
					}
					t.Render()
					return nil
				})
			})
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME|ID",
		Short: "End a token",
		Long: `Revoke ends a token. No call is begun with it from then on, at workers' Arrow Flight within ten seconds. Streams that it began, such
as those of tasks, of a job's progress, and of objects, end within five seconds more.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				revoked, err := c.RevokeToken(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				view := a.viewToken(revoked)
				return a.print(view, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "token %s (%s) is revoked\n", view.Name, view.ID)
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}

type tokenView struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Queues  []string `json:"queues"`
	State   string   `json:"state"`
	Made    string   `json:"created"`
	MadeBy  string   `json:"created_by"`
	Expires string   `json:"expires,omitempty"`
	Revoked string   `json:"revoked,omitempty"`
}

type createdToken struct {
	tokenView
	Text string `json:"token,omitempty"`
	File string `json:"file,omitempty"`
}

func (a *app) viewToken(t *enginev1.Token) tokenView {
	when := func(at *timestamppb.Timestamp) string {
		if at == nil {
			return ""
		}
		return at.AsTime().UTC().Format(time.RFC3339)
	}
	v := tokenView{
		ID: t.GetTokenId(), Name: t.GetName(), Role: t.GetRole(), Queues: t.GetQueues(), State: "VALID", Made: when(t.GetCreateTime()), MadeBy: t.GetCreatedBy(),
		Expires: when(t.GetExpireTime()), Revoked: when(t.GetRevokeTime()),
	}
	switch {
	case v.Revoked != "":
		v.State = "REVOKED"
	case t.GetExpireTime() != nil && !t.GetExpireTime().AsTime().After(a.now()):
		v.State = "EXPIRED"
	}
	return v
}

func (v tokenView) ends() string {
	switch {
	case v.Revoked != "":
		return "revoked " + v.Revoked
	case v.Expires != "":
		return "until " + v.Expires
	default:
		return "never"
	}
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show who the cluster takes you for, and what that gives",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				known, err := c.WhoAmI(cmd.Context())
				if err != nil {
					return err
				}
				identity := known.GetIdentity()
				view := struct {
					Name    string   `json:"name"`
					Method  string   `json:"method"`
					Roles   []string `json:"roles"`
					Queues  []string `json:"queues"`
					Token   string   `json:"token,omitempty"`
					Expires string   `json:"expires,omitempty"`
					Cluster string   `json:"cluster_id"`
				}{
					Name: identity.GetName(), Method: identity.GetMethod(), Roles: identity.GetRoles(), Queues: identity.GetQueues(),
					Token: identity.GetTokenId(), Cluster: known.GetClusterId(),
				}
				if t := identity.GetExpireTime(); t != nil {
					view.Expires = t.AsTime().UTC().Format(time.RFC3339)
				}
				return a.print(view, func(w io.Writer) error {
					rows := []string{"name", view.Name, "proven by", view.Method, "roles", strings.Join(view.Roles, ","), "queues", strings.Join(view.Queues, ","), "cluster", view.Cluster}
					if view.Token != "" {
						rows = append(rows, "token", view.Token)
					}
					if view.Expires != "" {
						rows = append(rows, "until", view.Expires)
					}
					return fields(w, rows...)
				})
			})
		},
	}
}

// tokenOption makes a client show the token that --token names: its text, or, after an @, the file with it.
func tokenOption(value string) (client.Option, error) {
	path, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		return client.WithToken(value), nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, usagef("--token %s: %w", value, err)
	}
	return client.WithTokenFile(absolute), nil
}
