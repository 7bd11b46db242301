package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/f708428e/engine"
)

// CrashError is a call of a model that ended its process every time: when it ran beside others, and when it ran alone. Whoever knows
// the rows of the call may try fewer of them, to find the one at fault. Its kind is engine.KindModel, or engine.KindExhausted if the
// process was killed, as the kernel does when memory is short.
type CrashError struct {
	// Model is the path of the model.
	Model string
	// Times is how often the process ended.
	Times int
	// Cause is how it ended the last time, such as "signal: killed", in one line.
	Cause string
	// Killed says that it was killed from outside.
	Killed bool
}

// Error returns model and cause.
func (e *CrashError) Error() string {
	return fmt.Sprintf("the executor of %s died %d times of this call: %s", e.Model, e.Times, e.Cause)
}

// Unwrap returns an error of the kind.
func (e *CrashError) Unwrap() error {
	kind := engine.KindModel
	if e.Killed {
		kind = engine.KindExhausted
	}
	return &engine.Error{Kind: kind, Op: "run model", ID: e.Model, Err: fmt.Errorf("%s", e.Cause)}
}

type suspectKey struct{}

// Suspect marks calls that are part of one which was a *CrashError. If the process ends once of such a call, that is one again: whoever
// looks for the row at fault goes on looking in it. The row alone is proven guilty by a call that is not marked.
func Suspect(ctx context.Context) context.Context { return context.WithValue(ctx, suspectKey{}, true) }

// IsSuspect reports whether Suspect has marked the calls of ctx.
func IsSuspect(ctx context.Context) bool { return ctx.Value(suspectKey{}) != nil }

// IsRefused reports whether err is a model's refusal of a call, because of its shapes or types for example: of kind engine.KindModel, and no
// *CrashError.
func IsRefused(err error) bool {
	var crash *CrashError
	return err != nil && engine.KindOf(err) == engine.KindModel && !errors.As(err, &crash)
}
