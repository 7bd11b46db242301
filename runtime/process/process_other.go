//go:build !linux

package process

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/sandbox"
	"github.com/f708428e/engine/runtime"
)

// Supported says whether this system has what executors need.
const Supported = false

var errUnsupported = engine.Errorf(engine.KindUnavailable, "start executor", "", "models in processes of their own need Linux").WithHint("use isolation: none")

// New returns an error: this system does not have what executors need.
func New(Config) (runtime.Loader, error) { return nil, errUnsupported }

// Serve returns an error: this system does not have what executors need.
func Serve(runtime.Loader) error { return errUnsupported }

// cgroups are not there.
type cgroups struct{}

// Probe returns an error: this system does not have what executors need.
func Probe(context.Context, Config) (sandbox.Report, error) { return nil, errUnsupported }
