package rpc_test

import (
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestEveryTaskStateHasOneWireValue(t *testing.T) {
	seen := map[enginev1.TaskState]bool{enginev1.TaskState_TASK_STATE_UNSPECIFIED: true}
	for _, state := range []engine.TaskState{
		engine.TaskPendingArguments, engine.TaskPending, engine.TaskRunning, engine.TaskSucceeded, engine.TaskFailed, engine.TaskCancelled,
	} {
		wire := rpc.TaskStateToProto(state)
		if seen[wire] || rpc.TaskStateFromProto(wire) != state {
			t.Errorf("%s is %s on the wire, which is %s", state, wire, rpc.TaskStateFromProto(wire))
		}
		seen[wire] = true
	}
	if len(seen) != len(enginev1.TaskState_name) {
		t.Errorf("%d of the wire's %d values are states of ours", len(seen), len(enginev1.TaskState_name))
	}
	if wire := rpc.TaskStateToProto("?"); wire != enginev1.TaskState_TASK_STATE_UNSPECIFIED {
		t.Errorf("an unknown state is %s", wire)
	}
}
