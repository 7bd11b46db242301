package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/node"
)

type runFlags struct {
	submissionID, dataDir, onnxRuntime, logLevel string
	sets, secrets                                []string
	onlyNew                                      bool
}

const onnxRuntimeUsage = "the `PATH` of ONNX Runtime's shared library; default: $ENGINE_ONNXRUNTIME, else the user's cache folder and the system's folders"

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run JOB.yaml",
		Short: "Run a job in this process and end with it",
		Long: `Run starts a cluster of one node inside this process, runs the job on it, and ends with it. Nothing listens on the network. "-"
reads the job file from standard input.

The job's record lives in --data-dir: by default a folder of its own under the user's cache folder, engine/runs. With
--submission-id the same id finds the same record: a job that was cut off, failed, or was stopped goes on where it stood, one that
has succeeded is reported again, and another job under that id is refused, as is one that has ended and whose inputs or models have
changed since; the error shows what differs. Of runs without a submission id the newest 100 folders
are kept, of those with one 1000.

With --only-new the job reads the inputs alone that have come since earlier jobs wrote to its output folders, whose mode must be
append. What those have read stands beside their rows. An input that has changed since is an error, and so are rows of a job that has
not finished. If nothing is new, the job succeeds without rows.

A credential field of the job file names a secret. ${secret:env:NAME} is a variable of this process, and ${secret:file:PATH} a file; --secret
gives those that have names of their own. Their values are kept encrypted until the job has succeeded.

An interrupt (Ctrl-C) stops the job, a second one ends the process at once.`,
		Example: `  engine run job.yaml
  engine run job.yaml --set source.csv.paths='[more/*.csv]' --set sink.parquet.path=out/more
  engine run job.yaml --submission-id nightly-2026-11-22 -o json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSubmissionID(cmd, f.submissionID); err != nil {
				return err
			}
			result, err := a.runJob(cmd.Context(), args[0], f)
			if err != nil {
				return a.refused(err)
			}
			return a.report(result)
		},
	}
	cmd.Flags().StringVar(&f.submissionID, "submission-id", "", "an `ID` of your own, under which the run can be repeated and resumed")
	cmd.Flags().BoolVar(&f.onlyNew, "only-new", false, onlyNewUsage)
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, setUsage)
	cmd.Flags().StringArrayVar(&f.secrets, "secret", nil, secretUsage)
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "the `FOLDER` that keeps the job's record; default: a folder in the user's cache")
	cmd.Flags().StringVar(&f.onnxRuntime, "onnxruntime", "", onnxRuntimeUsage)
	cmd.Flags().StringVar(&f.logLevel, "log-level", "warn", "log to standard error from this `LEVEL` on: debug, info, warn, error")
	return cmd
}

// stopWithin is how long an embedded cluster or a node takes to end before it is cut off.
const stopWithin = 10 * time.Second

func (a *app) runJob(ctx context.Context, path string, f runFlags) (result client.Result, err error) {
	logs := &logWriter{out: a.stderr}
	logger, err := newLogger(logs, f.logLevel)
	if err != nil {
		return result, usage(err)
	}
	spec, err := a.loadJob(ctx, path, f.sets, f.dataDir)
	if err != nil {
		return result, err
	}
	secrets, err := findSecrets(spec, f.secrets)
	if err != nil {
		return result, err
	}
	folder, err := a.claimRunFolder(ctx, f)
	if err != nil {
		return result, err
	}
	defer folder.release()
	stopSpans, err := sendSpans(ctx, logger)
	if err != nil {
		return result, err
	}
	defer stopSpans()
	cluster, err := node.StartEmbedded(ctx, node.EmbeddedConfig{
		DataDir: folder.path, Version: version, Logger: logger,
		Worker: node.WorkerConfig{
			Resources: node.DefaultResources(), ONNXRuntime: f.onnxRuntime, Version: version, Logger: logger,
			Secrets: node.SecretsConfig{KeepFromDumps: true},
		},
	})
	if err != nil {
		return result, err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if stopErr := cluster.Stop(stopCtx); stopErr != nil {
			logger.WarnContext(ctx, "the embedded cluster did not end cleanly", "error", stopErr)
		}
	}()
	job, err := cluster.Client().Submit(ctx, spec, submitOptions(f.submissionID, f.onlyNew, secrets)...)
	if err != nil {
		return result, err
	}
	if job.Attached() {
		if err := a.takeUp(ctx, job, secrets); err != nil {
			return result, err
		}
	}
	return a.follow(ctx, job, followOptions{stopOnInterrupt: true, logs: logs})
}

// takeUp goes on with a job of an earlier run.
func (a *app) takeUp(ctx context.Context, job *client.Job, secrets map[string][]byte) error {
	status, err := job.Status(ctx)
	if err != nil {
		return err
	}
	switch state := rpc.JobStateFromProto(status.GetState()); state {
	case engine.JobSucceeded:
		a.notef("job %s has succeeded before under this submission id; nothing is done again", job.ID())
		return nil
	case engine.JobFailed, engine.JobStopped:
		a.notef("job %s is %s; it goes on where it stood", job.ID(), state)
		_, err := job.ResumeWith(ctx, secrets)
		return err
	default:
		a.notef("job %s was cut off; it goes on where it stood", job.ID())
		return nil
	}
}

func (a *app) claimRunFolder(ctx context.Context, f runFlags) (*dataFolder, error) {
	path := f.dataDir
	if path == "" {
		cache, err := a.cacheDir()
		if err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("--data-dir names a folder")
		}
		path = runFolder(cache, f.submissionID, a.now())
	}
	folder, err := claimFolder(ctx, path)
	if err != nil {
		if engine.KindOf(err) == engine.KindConflict && f.submissionID != "" && f.dataDir == "" {
			return nil, engine.Errorf(engine.KindConflict, "run", f.submissionID, "a run with this submission id is in progress").
				WithHint("wait for it, or stop it with `engine stop --data-dir %s`", path)
		}
		return nil, err
	}
	if err := folder.record("run", "", a.now()); err != nil {
		folder.release()
		return nil, err
	}
	if f.dataDir == "" && f.submissionID == "" {
		pruneRuns(ctx, filepath.Dir(path), keptRuns, keptNamedRuns)
	}
	return folder, nil
}

// newLogger returns a logger of text lines.
func newLogger(w *logWriter, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, fmt.Errorf("--log-level %s: expected debug, info, warn, or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
