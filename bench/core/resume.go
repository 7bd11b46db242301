package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// resumedSplits is how many splits the resumed job has, all of which are done.
const resumedSplits = 10_000

// benchResume resumes a job of 10,000 splits of one file each that were all committed when it failed: a file that is none of its own keeps
// it from completing its output. What is measured is engine run from its start to its end, with its record to be read, its inputs to be
// listed, and its output to be looked at.
func benchResume(ctx context.Context) (err error) {
	root, err := os.MkdirTemp("", "bench-core-resume-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	in, out, record := filepath.Join(root, "in"), filepath.Join(root, "out"), filepath.Join(root, "record")
	if err := os.Mkdir(in, 0o750); err != nil {
		return err
	}
	for i := range resumedSplits {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%05d.csv", i)), fmt.Appendf(nil, "a,b\n%d,2\n", i), 0o600); err != nil {
			return err
		}
	}
	job := filepath.Join(root, "job.json")
	if err := os.WriteFile(job, []byte(`{"source": {"csv": {"paths": ["in"]}}, "sink": {"parquet": {"path": "out"}}}`), 0o600); err != nil {
		return err
	}
	run := func() (time.Duration, string, error) {
		cmd := exec.CommandContext(ctx, engineProgram(), "run", job, "--data-dir", record, "--submission-id", "bench") //nolint:gosec // The program that is measured.
		start := time.Now()
		said, err := cmd.CombinedOutput()
		return time.Since(start), string(said), err
	}
	stranger := filepath.Join(out, "stranger.txt")
	group := make(chan error, 1)
	putting, stop := context.WithCancel(ctx)
	go func() { group <- putWhenThere(putting, out, stranger) }() // lifecycle: ends with putting, whose end is waited for.
	first, said, runErr := run()
	stop()
	if err := <-group; err != nil {
		return fmt.Errorf("no part was made: %w: %s", runErr, said)
	}
	if runErr == nil || !strings.Contains(said, "stranger.txt") {
		return fmt.Errorf("the job was to fail because of %s: %w: %s", stranger, runErr, said)
	}
	if err := os.Remove(stranger); err != nil {
		return err
	}
	for _, folder := range []string{out, record} {
		if err := copyFolder(ctx, folder, folder+".kept"); err != nil {
			return err
		}
	}
	var took []time.Duration
	for range rounds() {
		for _, folder := range []string{out, record} {
			if err := errors.Join(os.RemoveAll(folder), copyFolder(ctx, folder+".kept", folder)); err != nil {
				return err
			}
		}
		elapsed, said, err := run()
		if err != nil || !strings.Contains(said, "SUCCEEDED") {
			return fmt.Errorf("the resumed job: %w: %s", err, said)
		}
		if _, err := os.Stat(filepath.Join(out, "_SUCCESS")); err != nil {
			return err
		}
		took = append(took, elapsed)
	}
	line(fmt.Sprintf("resume with %d of %d splits done", resumedSplits, resumedSplits), "%d ms (goal 2 s); the first run took %d ms", median(took).Milliseconds(), first.Milliseconds())
	return nil
}

// putWhenThere makes a file in a folder as soon as that holds a part.
func putWhenThere(ctx context.Context, folder, path string) error {
	for {
		if parts, err := filepath.Glob(filepath.Join(folder, "part-*")); err != nil || len(parts) > 0 {
			return os.WriteFile(path, nil, 0o600)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func copyFolder(ctx context.Context, from, to string) error {
	return exec.CommandContext(ctx, "cp", "-a", from, to).Run()
}
