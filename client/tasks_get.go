package client

import (
	"context"
	"errors"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// settleWithin is how long Get waits for the directory to hear of an object that its task has made, or to find it lost; settleShortly if
// nobody here knows whether the task made it.
const (
	settleWithin  = 10 * time.Second
	settleShortly = 2 * time.Second
)

// getOutput gets an object that may be a task's output: once the task has ended, and from its outcome if that holds it.
func (c *Client) getOutput(ctx context.Context, ref engine.ObjectRef, id engine.TaskUID, output int) (*Table, error) {
	made := false
	if h := c.tasks.known(id); h != nil {
		result, err := h.Wait(ctx)
		if err != nil {
			return nil, err
		}
		if made, err = c.made(ref, output, result.Outputs); err != nil {
			return nil, err
		}
		if made && len(result.Outputs[output].Value) > 0 {
			return table.Open(result.Outputs[output].Value, table.Options{})
		}
	}
	got, err := c.objects.get(ctx, ref.ID)
	if engine.KindOf(err) != engine.KindNotFound || err == nil {
		return got, err
	}
	settle := settleWithin
	if !made {
		settle = settleShortly
		if known, taskErr := c.awaitTask(ctx, ref, id); taskErr != nil {
			return nil, taskErr
		} else if !known {
			return nil, err
		}
	}
	// The outcome may be here before the head's directory has heard of the object.
	waiting, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if _, waitErr := c.Wait(waiting, []engine.ObjectRef{ref}, 1); waitErr != nil && ctx.Err() != nil {
		return nil, waitErr
	}
	return c.objects.get(ctx, ref.ID)
}

// made tells whether a task has made an output; it is an error of kind engine.KindNotFound if not.
func (c *Client) made(ref engine.ObjectRef, output int, outputs []TaskOutput) (bool, error) {
	if output < len(outputs) && outputs[output].SizeBytes > 0 {
		return true, nil
	}
	return false, engine.Errorf(engine.KindNotFound, "get object", ref.String(), "its task has ended and made no output %d", output)
}

// known returns the handle of a task of this client that has not ended, or has of late; nil if there is none.
func (t *tasks) known(id engine.TaskUID) *TaskHandle {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.unfinished[id]; h != nil {
		return h
	}
	return t.recent.get(id)
}

// awaitTask waits for the output of a task of another client. It reports false if the head knows no such task, and returns the task's error
// if it has failed.
func (c *Client) awaitTask(ctx context.Context, ref engine.ObjectRef, id engine.TaskUID) (known bool, err error) {
	for {
		task, err := c.Task(ctx, id)
		switch {
		case ctx.Err() != nil:
			return false, engine.WrapError("get object", ref.String(), context.Cause(ctx))
		case engine.KindOf(err) == engine.KindUnavailable:
			return false, err
		case err != nil:
			return false, nil //nolint:nilerr // The head does not know the task, or of tasks at all.
		}
		switch task.GetState() {
		case enginev1.TaskState_TASK_STATE_SUCCEEDED:
			return true, nil
		case enginev1.TaskState_TASK_STATE_FAILED, enginev1.TaskState_TASK_STATE_CANCELLED:
			return true, rpc.FromProto(task.GetError())
		}
		const look = time.Second
		waiting, cancel := context.WithTimeout(ctx, look)
		_, err = c.Wait(waiting, []engine.ObjectRef{ref}, 1)
		cancel()
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return false, err
		}
	}
}
