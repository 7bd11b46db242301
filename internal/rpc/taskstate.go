package rpc

import (
	"strings"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// taskStatePrefix is what the wire's names of task states have in front of ours.
const taskStatePrefix = "TASK_STATE_"

// TaskStateFromProto returns the state of a wire value: its name without the prefix.
func TaskStateFromProto(wire enginev1.TaskState) engine.TaskState {
	return engine.TaskState(strings.TrimPrefix(wire.String(), taskStatePrefix))
}

// TaskStateToProto is the inverse of TaskStateFromProto. An unknown state is unspecified.
func TaskStateToProto(state engine.TaskState) enginev1.TaskState {
	return enginev1.TaskState(enginev1.TaskState_value[taskStatePrefix+string(state)])
}
