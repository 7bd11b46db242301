// Command engine is the engine's command line: it runs jobs in one process, starts and stops the nodes of a cluster, and
// submits and watches jobs. Data goes to standard output, progress and logs to standard error; the exit codes are listed in
// docs/reference/errors.md.
package main

import (
	"context"
	"os"

	"github.com/f708428e/engine/node"
)

//go:generate go run . docs --root ../.. ../../docs/reference

// version is set by the linker.
var version = "dev"

func main() {
	if code, executed := node.RunExecutor(); executed {
		os.Exit(code)
	}
	os.Exit(newApp().run(context.Background(), os.Args[1:]))
}
