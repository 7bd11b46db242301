//go:build !cgo

package onnx

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// Loader does not exist in a program built without cgo.
type Loader struct{}

var _ runtime.Loader = (*Loader)(nil)

var errNoCgo = engine.Errorf(engine.KindUnavailable, "load ONNX Runtime", "", "this program was built without cgo: build it with CGO_ENABLED=1 and a C compiler")

// New returns an error of kind engine.KindUnavailable.
func New(Config) (*Loader, error) { return nil, errNoCgo }

// Load returns the error of New.
func (*Loader) Load(context.Context, runtime.LoadRequest) (runtime.Model, error) {
	return nil, errNoCgo
}

// Warm does nothing.
func (*Loader) Warm() {}

// Library returns the error of New.
func (*Loader) Library() (Library, error) { return Library{}, errNoCgo }

// CheckCUDA returns the error of New.
func (*Loader) CheckCUDA() error { return errNoCgo }

// Close does nothing.
func (*Loader) Close() error { return nil }
