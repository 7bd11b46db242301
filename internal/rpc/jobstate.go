package rpc

import (
	"strings"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// jobStatePrefix is what the wire's names of job states have in front of ours.
const jobStatePrefix = "JOB_STATE_"

// JobStateFromProto returns the state of a wire value: its name without the prefix.
func JobStateFromProto(wire enginev1.JobState) engine.JobState {
	return engine.JobState(strings.TrimPrefix(wire.String(), jobStatePrefix))
}

// JobStateToProto is the inverse of JobStateFromProto. An unknown state is unspecified.
func JobStateToProto(state engine.JobState) enginev1.JobState {
	return enginev1.JobState(enginev1.JobState_value[jobStatePrefix+string(state)])
}
