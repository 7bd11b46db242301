package operator

import (
	"context"
	"log/slog"

	"github.com/f708428e/engine"
)

// Task is what a running operator can learn of its task. It does not change while the task runs.
type Task struct {
	// ID is the task's.
	ID engine.TaskUID
	// Attempt counts the attempts from 1.
	Attempt int
	// Devices are the GPUs that the task may use, by their number on the node from 0. Empty for a task without GPU.
	Devices []int
	// Resources is what the task holds.
	Resources engine.Resources
	// Logger is where Logger's lines go, with the task's id and operator. Nil means nowhere.
	Logger *slog.Logger
	// Operator is the operator's name.
	Operator string
	// Report hears of progress. Nil means that nobody does. It is called by several goroutines at once and must not block.
	Report func(done, total float64)
}

type taskKey struct{}

// NewContext returns a context of a running task: what workers give to a Func, and tests of one may.
func NewContext(ctx context.Context, task *Task) context.Context {
	return context.WithValue(engine.WithTask(ctx, task.ID), taskKey{}, task)
}

func taskOf(ctx context.Context) *Task {
	if task, ok := ctx.Value(taskKey{}).(*Task); ok {
		return task
	}
	return &Task{}
}

// Progress says how much of the task is done, of how much there is to do, in units of the operator's own; total is 0 if that is not
// known. People see it in lists of tasks. A task that has called it once and then does not for as long as its HangAfter is said to
// hang, so a long task calls it as often as it gets on. It costs little and does not block.
func Progress(ctx context.Context, done, total float64) {
	if report := taskOf(ctx).Report; report != nil {
		report(done, total)
	}
}

// Logger returns a logger of the worker's log, whose lines name the task and its operator. Outside of a task its lines go nowhere.
func Logger(ctx context.Context) *slog.Logger {
	task := taskOf(ctx)
	if task.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return task.Logger.With("task", task.ID.String(), "operator", task.Operator)
}

// TaskID returns the id of the task that runs, or the zero id outside of one.
func TaskID(ctx context.Context) engine.TaskUID { return taskOf(ctx).ID }

// Attempt counts the attempts at the task from 1; it is 0 outside of a task. An operator with effects of its own uses it with
// TaskID: a task runs at least once.
func Attempt(ctx context.Context) int { return taskOf(ctx).Attempt }

// Devices are the GPUs that the task may use, by their number on the node from 0. The caller does not change them.
func Devices(ctx context.Context) []int { return taskOf(ctx).Devices }

// Resources is what the task holds while it runs. The caller does not change its maps.
func Resources(ctx context.Context) engine.Resources { return taskOf(ctx).Resources }
