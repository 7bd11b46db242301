package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
)

// stopView is what stop prints.
type stopView struct {
	Stopped bool   `json:"stopped"`
	Killed  bool   `json:"killed"`
	Role    string `json:"role"`
	PID     int    `json:"pid"`
	DataDir string `json:"data_dir"`
}

func (a *app) stopCommand() *cobra.Command {
	var dataDir string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the node of a data folder",
		Long: `Stop ends the node of --data-dir. Without it, it ends the node of the default folders of engine start: the head, or the one worker if
no head runs there.

A worker finishes what it holds within --grace, and has the objects that it alone has moved to other nodes; what is not done by then goes
back to the head, or is lost. A node that has not ended 5 seconds after that is killed. A head's jobs stay, durable, for its next start. If nothing runs, the command says so and succeeds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace < 0 {
				return usagef("--grace %v: expected a duration that is not negative", grace)
			}
			view, err := a.stopNodeOf(cmd.Context(), dataDir, grace)
			if err != nil {
				return err
			}
			return a.print(view, func(w io.Writer) error {
				text := "nothing runs"
				switch {
				case view.Killed:
					text = fmt.Sprintf("killed the %s with pid %d (%s), which did not end in time", view.Role, view.PID, view.DataDir)
				case view.Stopped:
					text = fmt.Sprintf("stopped the %s with pid %d (%s)", view.Role, view.PID, view.DataDir)
				case view.DataDir != "":
					text += " in " + view.DataDir
				}
				_, err := fmt.Fprintln(w, text)
				return engine.WrapError("print", "", err)
			})
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data `FOLDER` of the node; default: see above")
	cmd.Flags().DurationVar(&grace, "grace", 30*time.Second, "how long a worker may finish what it holds, a `DURATION`")
	return cmd
}

func (a *app) stopNodeOf(ctx context.Context, dataDir string, grace time.Duration) (stopView, error) {
	var err error
	if dataDir == "" {
		if dataDir, err = a.onlyNode(); err != nil {
			return stopView{}, err
		}
		if dataDir == "" {
			return stopView{}, nil
		}
	}
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return stopView{}, engine.Errorf(engine.KindInvalidArgument, "stop", dataDir, "%w", err)
	}
	record, runs, err := settledOwner(ctx, dataDir)
	view := stopView{Role: record.Role, PID: record.PID, DataDir: dataDir}
	if err != nil || !runs {
		return view, err
	}
	process, err := record.process()
	if err != nil {
		return view, err
	}
	// A second signal cuts a worker's last tasks off, the third is not asked.
	const cutWithin = 5 * time.Second
	for _, step := range []struct {
		signal os.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGTERM, cutWithin}, {syscall.SIGKILL, cutWithin}} {
		if err := process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return view, engine.Errorf(engine.KindPermission, "stop", fmt.Sprintf("pid %d", record.PID), "%w", err)
		}
		view.Killed = step.signal == syscall.SIGKILL
		gone, err := awaitGone(ctx, dataDir, record, step.wait)
		if err != nil {
			return view, err
		}
		if gone {
			view.Stopped = true
			return view, nil
		}
	}
	return view, engine.Errorf(engine.KindDeadline, "stop", fmt.Sprintf("pid %d", record.PID), "the process was killed but is still there")
}

// process finds the process of a record, and makes sure that it is the one that wrote it: pids are used again.
func (r pidRecord) process() (*os.Process, error) {
	if ticks := startTicks(r.PID); r.StartTicks != 0 && ticks != r.StartTicks {
		return nil, engine.Errorf(engine.KindConflict, "stop", fmt.Sprintf("pid %d", r.PID), "another process has this pid now, but the data folder is locked").
			WithHint("find the process that holds %s and end it by hand", pidFile)
	}
	process, err := os.FindProcess(r.PID)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "stop", fmt.Sprintf("pid %d", r.PID), "%w", err)
	}
	return process, nil
}

// poll is how often another process is looked at: it cannot be waited for.
const poll = 20 * time.Millisecond

// settledOwner is owner, with some patience for a process that has the folder but has not written its pid yet.
func settledOwner(ctx context.Context, dataDir string) (pidRecord, bool, error) {
	const patience = 10 * time.Second
	deadline := time.Now().Add(patience)
	for {
		record, runs, err := owner(dataDir)
		if err != nil || !runs || record.PID != 0 {
			return record, runs, err
		}
		if time.Now().After(deadline) {
			return record, runs, engine.Errorf(engine.KindConflict, "stop", dataDir, "a process has this folder but has not become ready")
		}
		if err := pause(ctx); err != nil {
			return record, runs, err
		}
	}
}

func awaitGone(ctx context.Context, dataDir string, record pidRecord, within time.Duration) (bool, error) {
	deadline := time.Now().Add(within)
	for {
		now, runs, err := owner(dataDir)
		if err != nil {
			return false, err
		}
		if !runs || now.PID != 0 && now.PID != record.PID {
			return true, nil
		}
		if !time.Now().Before(deadline) {
			return false, nil
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onlyNode returns the default folder whose node is meant if none is named: the head's, or the one worker's; "" if none runs.
func (a *app) onlyNode() (string, error) {
	cache, err := a.cacheDir()
	if err != nil {
		return "", engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("--data-dir names a folder")
	}
	head := filepath.Join(cache, "engine", "head")
	if _, runs, err := owner(head); err != nil || runs {
		return head, err
	}
	folders, err := filepath.Glob(filepath.Join(cache, "engine", "worker-*"))
	if err != nil {
		return "", engine.Errorf(engine.KindInternal, "stop", cache, "%w", err)
	}
	var running []string
	for _, folder := range folders {
		if _, runs, err := owner(folder); err == nil && runs {
			running = append(running, folder)
		}
	}
	switch len(running) {
	case 0:
		return "", nil
	case 1:
		return running[0], nil
	default:
		return "", engine.Errorf(engine.KindInvalidArgument, "stop", "", "several workers run: %s", strings.Join(running, ", ")).
			WithHint("name one with --data-dir")
	}
}
