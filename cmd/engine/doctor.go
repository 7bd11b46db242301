package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
)

// What a check can say of the machine.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// check is what doctor found of one thing.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Found  string `json:"found"`
	Hint   string `json:"hint"`
}

// doctorView is what doctor prints.
type doctorView struct {
	OK     bool    `json:"ok"`
	Checks []check `json:"checks"`
}

type doctorFlags struct {
	dataDir, onnxRuntime, s3, readMemory string
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine, and say what to do about what is missing",
		Long: `Doctor checks what the engine needs of a machine: ONNX Runtime, shared memory and its limits, whether a node may read the memory of its
clients, file descriptors, the disk of the data folder, how far the processes that run models can be confined, GPUs, the clock, when certificates end, the default ports, and with --s3 a bucket, in which it writes,
reads, and deletes an object of its own. It changes nothing else. The exit code is 1 if a check fails; a warning is no failure.`,
		Example: `  engine doctor
  engine doctor --s3 s3://bucket/prefix -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.readMemory != "" {
				return readMemory(f.readMemory, a.stdin, a.stdout)
			}
			view, err := a.examine(cmd.Context(), f)
			if err != nil {
				return err
			}
			if err := a.print(view, func(w io.Writer) error { return describeChecks(w, view) }); err != nil {
				return err
			}
			if !view.OK {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "the data `FOLDER` that a node is to have; default: the folder engine in the user's cache")
	cmd.Flags().StringVar(&f.onnxRuntime, "onnxruntime", "", onnxRuntimeUsage)
	cmd.Flags().StringVar(&f.s3, "s3", "", "a bucket to check as `URI`: s3://bucket/prefix, or another place for checkpoints")
	cmd.Flags().StringVar(&f.readMemory, "read-memory", "", "")
	_ = cmd.Flags().MarkHidden("read-memory") // the flag exists
	return cmd
}

// examine makes all checks, one after the other: they take some milliseconds each, a bucket that does not answer more.
func (a *app) examine(ctx context.Context, f doctorFlags) (doctorView, error) {
	dataDir := f.dataDir
	if dataDir == "" {
		cache, err := a.cacheDir()
		if err != nil {
			return doctorView{}, engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("--data-dir names a folder")
		}
		dataDir = filepath.Join(cache, "engine")
	}
	loader, onnx := checkONNX(f.onnxRuntime)
	checks := []check{onnx, checkGPU(loader), checkMemory(), checkSharedMemory(), checkReadMemory(ctx), checkDescriptors(), checkFolder(dataDir), checkSandbox(ctx, f.onnxRuntime), a.checkClock()}
	checks = append(checks, a.checkCertificates(dataDir)...)
	checks = append(checks, a.checkPorts(ctx)...)
	if f.s3 != "" {
		checks = append(checks, checkBucket(ctx, f.s3))
	}
	view := doctorView{OK: true, Checks: checks}
	for _, c := range checks {
		view.OK = view.OK && c.Status != checkFail
	}
	return view, nil
}

func describeChecks(w io.Writer, v doctorView) error {
	t := newTable(w, "check", "status", "found")
	const width = 70
	var hints []string
	for _, c := range v.Checks {
		t.AppendRow([]any{c.Name, strings.ToUpper(c.Status), wrap(c.Found, width)})
		if c.Hint != "" {
			hints = append(hints, c.Name, c.Hint)
		}
	}
	t.Render()
	if len(hints) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "What to do:\n"); err != nil {
		return engine.WrapError("print", "", err)
	}
	return fields(w, hints...)
}

// wrap breaks a text into lines of at most width characters, where it has spaces.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

func passed(name, format string, args ...any) check {
	return check{Name: name, Status: checkOK, Found: fmt.Sprintf(format, args...)}
}

func warned(name, hint, format string, args ...any) check {
	return check{Name: name, Status: checkWarn, Found: fmt.Sprintf(format, args...), Hint: hint}
}

func failed(name, hint, format string, args ...any) check {
	return check{Name: name, Status: checkFail, Found: fmt.Sprintf(format, args...), Hint: hint}
}

// failedBy is a check that ended with an error, whose hint comes before the given one.
func failedBy(name, hint string, err error) check {
	text, hints := explain(err)
	if len(hints) > 0 {
		hint = hints[0]
	}
	return failed(name, hint, "%s", text)
}

// checkClock compares the clock with what is known to be in the past.
func (a *app) checkClock() check {
	const name, hint = "clock", "synchronise the clock (chrony, systemd-timesyncd): S3 refuses requests of a clock that is minutes off"
	now := a.now()
	built := time.Time{}
	if program, err := programTime(); err == nil {
		built = program
	}
	const skew = 24 * time.Hour
	if now.Before(built.Add(-skew)) {
		return failed(name, hint, "%s is before this program was installed, %s", now.UTC().Format(time.RFC3339), built.UTC().Format(time.RFC3339))
	}
	if state := clockState(); state != "" {
		return warned(name, hint, "%s; %s", now.UTC().Format(time.RFC3339), state)
	}
	return passed(name, "%s", now.UTC().Format(time.RFC3339))
}
