//go:build !cgo || !linux

package cuda

import "github.com/f708428e/engine"

func probe() (*Driver, error) {
	return nil, engine.Errorf(engine.KindNotFound, "look for GPUs", "", "this program cannot use GPUs: build it with cgo, for Linux")
}

// loadable is not known here; what is not known is not reported as missing.
func loadable(string) bool { return true }
