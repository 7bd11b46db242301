package tasks

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

// result is how an attempt ended.
type result struct {
	outcome *enginev1.TaskOutcome
	// made are the objects that this attempt has put into the store.
	made []engine.ObjectID
	// dropped says that the worker stops: there is no outcome.
	dropped bool
}

// errTimeout is the cause of the end of an attempt that took too long.
var errTimeout = errors.New("timeout")

// abandonAfter is how long an operator may go on after its time is over before its task ends without it.
var abandonAfter = 5 * time.Second // a variable for tests

// maxErrorBytes bounds the text of an error in an outcome.
const maxErrorBytes = 4 << 10

// attempt runs a task that was admitted.
func (t *Tasks) attempt(ctx context.Context, r *task) result {
	group := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	number, ok := t.arm(r, cancel)
	if !ok {
		return result{} // finish knows why.
	}
	if timeout := r.template.timeout; timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer stop()
		abandon := time.AfterFunc(timeout+abandonAfter, func() { t.abandon(r) })
		defer abandon.Stop()
	}
	end := func(error) {}
	if parent := r.template.wire.GetTraceParent(); parent != "" && telemetry.IsTracing() {
		ctx, end = telemetry.Begin(telemetry.WithParent(ctx, parent), "run", attribute.String("engine.task", r.id.String()),
			attribute.String("engine.operator", r.template.wire.GetOperator()), attribute.Int("engine.attempt", number),
			attribute.String("engine.node", string(t.config.Node)))
	}
	outputs, made, err := t.run(ctx, r, number)
	end(err)
	elapsed := time.Since(r.began)
	switch {
	case err == nil:
	case group.Err() != nil:
		return result{dropped: true, made: made}
	case context.Cause(ctx) == errTimeout: //nolint:errorlint // Identity is meant: an operator may have timeouts of its own.
		err = t.tooLong(r)
	}
	if err != nil {
		failed := t.failure(r, err)
		failed.RunNanos, failed.StartUnixNanos = int64(elapsed), r.began.UnixNano()
		return result{outcome: failed, made: made}
	}
	return result{made: made, outcome: &enginev1.TaskOutcome{
		TaskId: r.wireID, State: enginev1.TaskState_TASK_STATE_SUCCEEDED, Outputs: outputs, NodeId: string(t.config.Node),
		RunNanos: int64(elapsed), StartUnixNanos: r.began.UnixNano(),
	}}
}

// arm lets a revocation end the context of a task from now on, and returns the attempt's number: a newer grant may change it. It reports
// false if the task was taken back already.
func (t *Tasks) arm(r *task, cancel context.CancelCauseFunc) (number int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.cancel = cancel
	return int(r.attempt), r.phase != ended && !r.revoked
}

func (t *Tasks) tooLong(r *task) error {
	return engine.Errorf(engine.KindDeadline, opRun, r.id.String(), "it took longer than its timeout of %s", r.template.timeout)
}

// abandon ends a task whose operator does not return although its time is over. Its resources stay taken until it does.
func (t *Tasks) abandon(r *task) {
	t.mu.Lock()
	left := r.phase == running
	if left {
		outcome := t.failure(r, t.tooLong(r))
		outcome.RunNanos, outcome.StartUnixNanos = int64(time.Since(r.began)), r.began.UnixNano()
		t.endLocked(r, outcome)
	}
	t.mu.Unlock()
	if left {
		t.config.Logger.Warn("a task's operator does not return although its time is over; it keeps its resources until it does",
			"task", r.id.String(), "operator", r.template.wire.GetOperator())
	}
}

// run reads the arguments, calls the operator, and keeps what it returns. A panic, in the operator or in what it has returned, costs the
// attempt, not the worker.
func (t *Tasks) run(ctx context.Context, r *task, number int) (outputs []*enginev1.TaskOutput, made []engine.ObjectID, err error) {
	defer func() {
		if p := recover(); p != nil {
			name := r.template.wire.GetOperator()
			t.config.Logger.ErrorContext(ctx, "an operator panicked", "operator", name, "task", r.id.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if store := t.opened.Load(); store != nil {
				store.Delete(made...)
			}
			outputs, made, err = nil, nil, engine.Errorf(engine.KindInternal, "operator "+name, "", "panic: %v", p)
		}
	}()
	args, err := t.openArguments(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		for _, arg := range args {
			arg.Release()
		}
	}()
	results, err := t.call(ctx, r, number, args)
	defer func() {
		for i := range results {
			results[i].Release()
		}
	}()
	if err != nil {
		return nil, nil, t.classify(r, err)
	}
	if ctx.Err() != nil { // It did not look at its context, and comes too late.
		return nil, nil, context.Cause(ctx)
	}
	if len(results) == 0 {
		return nil, nil, nil
	}
	return t.keep(ctx, r, results)
}

// call calls the operator.
func (t *Tasks) call(ctx context.Context, r *task, number int, args []*operator.Table) ([]operator.Output, error) {
	info := &operator.Task{
		ID: r.id, Attempt: number, Resources: r.template.resources, Logger: t.config.Logger, Operator: r.template.wire.GetOperator(),
		Report: func(done, total float64) { r.progress.report(r.began, done, total) },
	}
	for _, d := range r.devices {
		info.Devices = append(info.Devices, int(d))
	}
	return r.template.run(operator.NewContext(ctx, info), r.template.wire.GetParams(), args)
}

// classify gives an operator's error its kind; see operator.Func.
func (t *Tasks) classify(r *task, err error) error {
	_ = err.Error() // One that has no text, a nil pointer for example, panics here and not where nobody expects it.
	kind := engine.KindOf(err)
	var known *engine.Error
	if kind == engine.KindInternal && !errors.As(err, &known) {
		kind = engine.KindData
	}
	return &engine.Error{Kind: kind, Op: "operator " + r.template.wire.GetOperator(), Err: err}
}

// failure is the outcome of a task that has failed.
func (t *Tasks) failure(r *task, err error) *enginev1.TaskOutcome {
	wire := rpc.ToProto(err)
	if len(wire.GetMessage()) > maxErrorBytes {
		wire.Message = rpc.Text(wire.GetMessage()[:maxErrorBytes]) + " …"
	}
	return &enginev1.TaskOutcome{
		TaskId: r.wireID, State: enginev1.TaskState_TASK_STATE_FAILED, Error: wire, NodeId: string(t.config.Node),
	}
}

// cancelled is the outcome of a task that was revoked.
func (t *Tasks) cancelled(r *task) *enginev1.TaskOutcome {
	outcome := t.failure(r, errRevoked)
	outcome.State = enginev1.TaskState_TASK_STATE_CANCELLED
	if !r.began.IsZero() {
		outcome.RunNanos, outcome.StartUnixNanos = int64(time.Since(r.began)), r.began.UnixNano()
	}
	return outcome
}
