package node

import (
	"sync"

	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/security/dumps"
)

// SecretsConfig is how a node deals with the secrets of jobs.
type SecretsConfig struct {
	// Allowed are variables and files of this process that jobs may use as secrets: env:NAME and file:/PATH, in which * stands for any characters but a
	// slash. Whoever may submit a job can send them to any server that the job names. Both heads and workers need them. Empty means none.
	Allowed []string
	// KeepFromDumps sees to it that the process leaves no core dump, and that no other process of its user reads its memory, from when it
	// holds a secret for the first time. Where the system cannot do that, it has no effect.
	KeepFromDumps bool
}

// parse returns what a head or a worker makes of the configuration. The error is of kind engine.KindInvalidArgument.
func (c SecretsConfig) parse() (allowed secret.Allowed, held func(), err error) {
	if c.KeepFromDumps {
		held = sync.OnceFunc(func() { dumps.Prevent() })
	}
	allowed, err = secret.ParseAllowed(c.Allowed)
	return allowed, held, err
}
