package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/process"
)

// sandboxWithin is how long an executor may take to start; some 50 ms are usual.
const sandboxWithin = 30 * time.Second

// checkSandbox starts a process as models run in, and tells how it is confined.
func checkSandbox(ctx context.Context, onnxRuntime string) check {
	const name = "sandbox"
	if !process.Supported {
		return warned(name, "run workers on Linux", "models run in the worker's own process here")
	}
	ctx, cancel := context.WithTimeout(ctx, sandboxWithin)
	defer cancel()
	report, err := node.ProbeExecutor(ctx, node.WorkerConfig{ONNXRuntime: onnxRuntime, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return failedBy(name, "", err)
	}
	if len(report) == 0 {
		return warned(name, "run workers on amd64 or arm64", "processes that run models are not confined here")
	}
	var held, missing []string
	for _, m := range report {
		if m.Missing == "" {
			held = append(held, m.Name)
		} else {
			missing = append(missing, m.Name+" ("+m.Missing+")")
		}
	}
	if report.Complete() {
		found := "models run in processes confined by " + strings.Join(held, ", ")
		if len(missing) > 0 {
			found += "; they have no " + strings.Join(missing, ", ")
		}
		return passed(name, "%s", found)
	}
	return warned(name, "in a container, allow user namespaces and Landlock in its seccomp profile; on a host, see kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces, and lsm=landlock. --sandbox require starts no process that is not confined in all ways",
		"models run in processes that lack %s; they have %s", strings.Join(missing, "; "), strings.Join(append(held, "an environment without secrets"), ", "))
}
