package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

// app is one call of the command line: its surroundings, which tests replace, and the flags that all commands have.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	// fancy says that standard error is a terminal that can redraw a line.
	fancy bool
	now   func() time.Time
	dial  func(ctx context.Context, address string) (*client.Client, error)
	// signals begins to deliver interrupts; the function that it returns ends that.
	signals func() (<-chan os.Signal, func())
	// exitNow ends the process without any cleaning up.
	exitNow func(code int)
	// cacheDir is the user's folder for what can be lost.
	cacheDir func() (string, error)

	address string
	token   string
	tls     tlsFlags
	output  string
	quiet   bool
	// begun is set once flags and arguments are accepted: errors before that are the user's.
	begun bool
}

func newApp() *app {
	a := &app{
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		env:    os.LookupEnv,
		now:    time.Now,
		signals: func() (<-chan os.Signal, func()) {
			c := make(chan os.Signal, 2)
			signal.Notify(c, os.Interrupt, syscall.SIGTERM)
			return c, func() { signal.Stop(c) }
		},
		exitNow:  os.Exit,
		cacheDir: os.UserCacheDir,
	}
	a.dial = func(ctx context.Context, address string) (*client.Client, error) {
		options := a.tls.options()
		if a.token != "" {
			token, err := tokenOption(a.token)
			if err != nil {
				return nil, err
			}
			options = append(options, token)
		}
		return client.Dial(ctx, address, options...)
	}
	noColor, _ := os.LookupEnv("NO_COLOR")
	a.fancy = term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb" && noColor == ""
	return a
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	return a.finish(root.ExecuteContext(ctx))
}

const (
	defaultAddress = "127.0.0.1:10001"
	addressEnv     = "ENGINE_ADDRESS"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "engine",
		Short: "A native distributed batch inference engine",
		Long: `Engine scores tables with models: it reads CSV or Parquet files, evaluates ONNX models on their rows, and writes Parquet.

  engine run JOB.yaml       runs a job in this process, without any server
  engine start --head       starts a cluster on this machine; engine submit JOB.yaml gives it work

Data is printed on standard output, progress and logs on standard error. The exit code is 0 if the command, or the job that it
waited for, succeeded; 1 if it failed; 2 for a mistake in the command line or the job file; 3 if the job was stopped; 4 if the
head cannot be reached; 5 if the head refused; 130 if it was interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          a.group,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.begin(cmd)
		},
		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "address", defaultAddress, "the head's `HOST:PORT`, or that of several heads, separated by commas; the environment variable "+addressEnv+" sets the default")
	flags.StringVar(&a.token, "token", "", "say who you are by this `TOKEN`, or by @FILE with one; the environment variables "+client.TokenEnv+" and "+client.TokenFileEnv+" set the default, which other users cannot see")
	a.tls.add(flags)
	flags.StringVarP(&a.output, "output", "o", "table", "print data in this `FORMAT`: table, json, or yaml")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no summary on standard error")
	root.AddCommand(a.runCommand(), a.startCommand(), a.stopCommand(), a.statusCommand(), a.submitCommand(), a.jobCommand(), a.listCommand(),
		a.getCommand(), a.headCommand(), a.nodeCommand(), a.queueCommand(), a.taskCommand(), a.summaryCommand(), a.timelineCommand(), a.memoryCommand(), a.objectCommand(), a.modelCommand(), a.tokenCommand(), a.whoamiCommand(), a.auditCommand(), a.doctorCommand(), a.versionCommand(), a.docsCommand())
	return root
}

// begin checks the flags that all commands have.
func (a *app) begin(cmd *cobra.Command) error {
	switch a.output {
	case "table", "json", "yaml":
	default:
		return fmt.Errorf("-o %s: expected table, json, or yaml", a.output)
	}
	if env, ok := a.env(addressEnv); ok && env != "" && !cmd.Flags().Changed("address") {
		a.address = env
	}
	if err := a.tls.resolve(a.env); err != nil {
		return err
	}
	a.begun = true
	return nil
}

// group is what a command that only has subcommands does: it shows its help, or says that there is no such subcommand.
func (a *app) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	hint := fmt.Sprintf("`%s --help` lists the commands", cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return engine.Errorf(engine.KindInvalidArgument, cmd.CommandPath(), "", "unknown command %q", args[0]).WithHint("%s", hint)
}

// connect returns a client of the head at a.address.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	if err := a.tls.checkAddress(ctx, a.address); err != nil {
		return nil, err
	}
	return a.dial(ctx, a.address)
}

// notef prints a line for people to standard error, unless they asked for none.
func (a *app) notef(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// oneArgument refuses any other number of arguments, with the usage that names the one.
func oneArgument(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return fmt.Errorf("expected one argument, found %d: %s", len(args), cmd.UseLine())
}
