package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/audit"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify the audit log of a head",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.auditVerifyCommand(), a.auditShowCommand())
	return cmd
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var dataDir, noted string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find out whether an audit log is what was written",
		Long: `Verify reads the whole audit log in a head's data folder. Each line has the hash of the one before it; the first line that was changed,
left out, or moved is named, with exit code 1. What verify cannot find out by itself is whether somebody has written the whole log anew, or
has cut lines off its end: for that, keep the last line's number and hash, which verify prints, in another place, and give them with --noted
the next time. A log that a head writes at the moment can be verified.`,
		Example: `  engine audit verify
  engine audit verify --data-dir /var/lib/engine/head --noted 1042:5f0c…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.auditDir(dataDir)
			if err != nil {
				return err
			}
			line, err := parseNoted(noted)
			if err != nil {
				return err
			}
			report, err := audit.Verify(cmd.Context(), dir, line, nil)
			if err != nil {
				return err
			}
			return a.print(report, func(w io.Writer) error {
				text := fmt.Sprintf("%d lines, from %s to %s, are as they were written\n  last      %d:%s\n",
					report.Lines, report.Begin.Format(time.RFC3339), report.End.Format(time.RFC3339), report.Last, report.Hash)
				if report.Lines == 0 {
					text = "the log has no lines yet\n"
				}
				if report.First > 1 {
					text += fmt.Sprintf("  older     lines before %d are not in this folder any more\n", report.First)
				}
				if report.Torn > 0 {
					text += fmt.Sprintf("  end       %d bytes are no whole line: it is being written, or a crash cut it off\n", report.Torn)
				}
				_, err := io.WriteString(w, text)
				return engine.WrapError("print", "", err)
			})
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the head's data `FOLDER`; default: that of a head of yours")
	cmd.Flags().StringVar(&noted, "noted", "", "a `NUMBER:HASH` that verify has printed before, which the log must have")
	return cmd
}

func (a *app) auditShowCommand() *cobra.Command {
	var dataDir, who string
	var refused bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the entries of an audit log, as JSON lines or as a table",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.auditDir(dataDir)
			if err != nil {
				return err
			}
			var entries []audit.Entry
			_, err = audit.Verify(cmd.Context(), dir, nil, func(e audit.Entry) error {
				if (who == "" || e.Who == who) && (!refused || !e.Allowed) {
					entries = append(entries, e)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return a.print(entries, func(w io.Writer) error {
				t := newTable(w, ">line", "time", "who", "from", "call", "about", "allowed", "reason")
				for _, e := range entries {
					t.AppendRow([]any{e.Number, e.Time.Format(time.RFC3339), e.Who, e.From, e.Call, e.Target, e.Allowed, e.Reason})
				}
				t.Render()
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dataDir, "data-dir", "", "the head's data `FOLDER`; default: that of a head of yours")
	flags.StringVar(&who, "who", "", "only what this `NAME` did")
	flags.BoolVar(&refused, "refused", false, "only what was refused")
	return cmd
}

// auditDir is the folder of the audit log in a head's data folder.
func (a *app) auditDir(dataDir string) (string, error) {
	if dataDir == "" {
		cache, err := a.cacheDir()
		if err != nil {
			return "", engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("--data-dir names a folder")
		}
		dataDir = filepath.Join(cache, "engine", "head")
	}
	return filepath.Join(dataDir, "audit"), nil
}

// parseNoted reads NUMBER:HASH; nil if there is none.
func parseNoted(text string) (*audit.Noted, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // Nothing was noted.
	}
	number, hash, ok := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || len(hash) != 64 {
		return nil, usagef("--noted %s: expected a number, a colon, and 64 hexadecimal digits, as verify prints them", text)
	}
	return &audit.Noted{Number: n, Hash: hash}, nil
}
