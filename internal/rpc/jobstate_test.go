package rpc_test

import (
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestEveryJobStateHasOneWireValue(t *testing.T) {
	seen := map[enginev1.JobState]bool{enginev1.JobState_JOB_STATE_UNSPECIFIED: true}
	for _, state := range []engine.JobState{engine.JobPending, engine.JobRunning, engine.JobStopped, engine.JobSucceeded, engine.JobFailed} {
		wire := rpc.JobStateToProto(state)
		if seen[wire] || rpc.JobStateFromProto(wire) != state {
			t.Errorf("%s is %s on the wire, which is %s", state, wire, rpc.JobStateFromProto(wire))
		}
		seen[wire] = true
	}
	if len(seen) != len(enginev1.JobState_name) {
		t.Errorf("%d of the wire's %d values are states of ours", len(seen), len(enginev1.JobState_name))
	}
	if wire := rpc.JobStateToProto("?"); wire != enginev1.JobState_JOB_STATE_UNSPECIFIED {
		t.Errorf("an unknown state is %s", wire)
	}
}
