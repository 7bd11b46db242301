package operator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
)

// Table is an argument of a Func: an object of the store, whose records lie over the store's memory. It belongs to the caller; a
// Func that keeps a record longer than its call retains it.
type Table = table.Table

// Func is an operator that tasks name: it works on the arguments of one task and returns what becomes the task's outputs, in order;
// it may return fewer than the task announces, and then some outputs have no object. The references to what it returns go over to
// the caller. params are the task's parameters as they were submitted; several calls share the bytes. It is called by several
// goroutines at once, and may block: ctx ends when the task is cancelled or its time is over, and the task keeps what it holds until
// the function has returned. One that waits for other tasks, such as those that it submits itself, should therefore ask for little or
// nothing: else they may wait for what it holds. From ctx it learns of its task, see Progress, Logger, TaskID, Attempt, Devices, and Resources.
//
// An *engine.Error in the chain of the error that it returns says by its kind whether the task is tried again: failures of the
// infrastructure are (engine.Kind.Retryable). An end of a context has its own kind. Any other error counts as engine.KindData, the
// user's fault, and is final. A panic is an error of kind engine.KindInternal with its stack in the worker's log; it is tried again,
// because it may come from what other tasks of the process do, until the task's attempts are used up.
type Func func(ctx context.Context, params []byte, args []*Table) ([]Output, error)

// The operators that every worker has. What Registry.Register refuses to replace.
const (
	// NameNoop returns nothing.
	NameNoop = "noop"
	// NameEcho returns its arguments.
	NameEcho = "echo"
	// NameInfer evaluates a model on its argument, as the step infer of a job does; its parameters are that step's fields.
	NameInfer = "infer"
	// NameEmbed adds the vectors of texts to its argument, as the step embed of a job does; its parameters are that step's fields.
	NameEmbed = "embed"
)

// reserved are the names that are taken.
var reserved = []string{NameNoop, NameEcho, NameInfer, NameEmbed}

// Registry is a set of operators by name. The zero value is empty and ready. It is safe for concurrent use.
type Registry struct {
	mu    sync.Mutex
	funcs map[string]Func
	steps map[string]StepFunc
}

// Default is the registry of Register and RegisterFunc, which workers take that are given no other.
var Default = &Registry{}

// Register adds an operator to the Default registry, usually in an init function or before the node starts. It panics as
// Registry.Register does.
func Register(name string, f Func) { Default.Register(name, f) }

// RegisterFunc is Register for an operator whose parameters are JSON of a type of its own; see Typed.
func RegisterFunc[P any](name string, f func(ctx context.Context, params P, args []*Table) ([]Output, error)) {
	Default.Register(name, Typed(f))
}

// Register adds an operator. Workers that have started do not hear of it. It panics, because the program is wrong, if the name is
// taken, is that of an operator that every worker has, or is not made of 1 to 100 letters, digits, and ._/-, and if f is nil.
func (r *Registry) Register(name string, f Func) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f == nil:
		panic(fmt.Sprintf("register operator %q: the function is nil", name))
	case !validName(name):
		panic(fmt.Sprintf("register operator %q: a name has 1 to 100 letters, digits, and ._/-", name))
	case slices.Contains(reserved, name):
		panic(fmt.Sprintf("register operator %q: every worker has an operator of that name", name))
	case r.funcs[name] != nil:
		panic(fmt.Sprintf("register operator %q: it is registered already", name))
	}
	if r.funcs == nil {
		r.funcs = map[string]Func{}
	}
	r.funcs[name] = f
}

// Funcs returns what is registered now, in a map of the caller's.
func (r *Registry) Funcs() map[string]Func {
	r.mu.Lock()
	defer r.mu.Unlock()
	funcs := maps.Clone(r.funcs)
	if funcs == nil {
		funcs = map[string]Func{}
	}
	return funcs
}

func validName(name string) bool {
	if name == "" || len(name) > 100 {
		return false
	}
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("._/-", c) {
			return false
		}
	}
	return true
}

// NoopFunc is the operator NameNoop.
func NoopFunc(context.Context, []byte, []*Table) ([]Output, error) { return nil, nil }

// EchoFunc is the operator NameEcho. It takes no parameters.
func EchoFunc(_ context.Context, params []byte, args []*Table) ([]Output, error) {
	if len(params) > 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read parameters", "", "operator %s takes none", NameEcho)
	}
	outputs := make([]Output, len(args))
	for i, arg := range args {
		outputs[i] = Tables(arg)
	}
	return outputs, nil
}
