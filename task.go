package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// TaskUID names one task that a client has submitted, for all time. Its last two bytes are zero: the ids of the task's outputs have
// their number there, so that an object says which task has made it.
type TaskUID [16]byte

// taskPrefix and taskCount make ids without asking the system for randomness each time.
var (
	taskPrefix = newTaskPrefix()
	taskCount  atomic.Uint64
)

func newTaskPrefix() (prefix [8]byte) {
	// crypto/rand.Read never returns an error; it ends the program when the system has no randomness.
	_, _ = rand.Read(prefix[:])
	return prefix
}

// NewTaskUID returns an id: 64 random bits of this process and a count.
func NewTaskUID() TaskUID {
	var id TaskUID
	copy(id[:8], taskPrefix[:])
	var count [8]byte
	binary.BigEndian.PutUint64(count[:], taskCount.Add(1))
	copy(id[8:14], count[2:])
	return id
}

// String returns the id as 32 hexadecimal digits.
func (id TaskUID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id names no task.
func (id TaskUID) IsZero() bool { return id == TaskUID{} }

// Output returns the id of the task's output n, counted from 0. A task has at most MaxTaskOutputs.
func (id TaskUID) Output(n int) ObjectID {
	object := ObjectID(id)
	binary.BigEndian.PutUint16(object[14:], uint16(n+1)) //nolint:gosec // Bounded by MaxTaskOutputs.
	return object
}

// ParseTaskUID is the inverse of String; it returns an InvalidArgument error for any other text.
func ParseTaskUID(text string) (TaskUID, error) {
	object, err := ParseObjectID(text)
	if err != nil || object[14] != 0 || object[15] != 0 {
		return TaskUID{}, Errorf(KindInvalidArgument, "parse task id", "", "%q is not a task id: expected 32 hexadecimal digits that end in 0000", text)
	}
	return TaskUID(object), nil
}

// taskKey is the key of a running task's id in a context.
type taskKey struct{}

// WithTask returns a context that says which task runs under it. Tasks that a program submits under such a context are that task's
// children.
func WithTask(ctx context.Context, id TaskUID) context.Context {
	return context.WithValue(ctx, taskKey{}, id)
}

// TaskFrom returns the task that runs under a context, and reports whether there is one.
func TaskFrom(ctx context.Context) (TaskUID, bool) {
	id, ok := ctx.Value(taskKey{}).(TaskUID)
	return id, ok
}

// Producer returns the id that a task would have whose output the object is, and the output's number from 0. Whether there is such a
// task, only the head knows: the ids of other objects are random. It reports false for an id that no task's output has.
func (id ObjectID) Producer() (task TaskUID, output int, ok bool) {
	n := binary.BigEndian.Uint16(id[14:])
	if n == 0 || n > MaxTaskOutputs {
		return TaskUID{}, 0, false
	}
	task = TaskUID(id)
	task[14], task[15] = 0, 0
	return task, int(n) - 1, true
}

// The bounds of one task.
const (
	MaxTaskOutputs   = 1_000
	MaxTaskArguments = 1_000
	// MaxTaskParamsBytes bounds the parameters of an operator.
	MaxTaskParamsBytes = 1 << 20
)

// Task is what a client submits: an operator that is registered with the workers, and what it works on.
type Task struct {
	// Operator is the registered name. Required.
	Operator string
	// Args are the arguments in order. The task starts once the objects among them exist.
	Args []Arg
	// Params are the operator's parameters: a []byte as it is, anything else as JSON. Nil means none.
	Params any
	// Resources is what the task takes while it runs. The zero value means one core; to ask for nothing, set NoResources.
	Resources Resources
	// NoResources says that the task takes nothing.
	NoResources bool
	// TaskOptions holds what is rarely set.
	TaskOptions
}

// TaskOptions is how a task is run. Tasks with equal options, operator, parameters, and resources are one class to the scheduler.
type TaskOptions struct {
	// Name is for people. Empty means the operator's.
	Name string
	// Queue is whose share the task uses. Empty means "default".
	Queue string
	// Priority puts a task before others of its queue that wait.
	Priority int
	// MaxAttempts bounds the attempts; only failures of the infrastructure are tried again. Zero means 4, 1 means no retry.
	MaxAttempts int
	// Timeout bounds one attempt. Zero means no limit.
	Timeout time.Duration
	// HangAfter is how long an attempt that has reported progress may go on without. Zero means 1 minute.
	HangAfter time.Duration
	// NodeLabels are labels that the node must have; "" as a value means that the label exists, "!" before one that it differs.
	NodeLabels map[string]string
	// Node is where the task must run, or should if Soft is set. Empty means anywhere.
	Node NodeID
	Soft bool
	// Spread spreads tasks over the nodes instead of filling one after the other.
	Spread bool
	// Group is the placement group whose bundle the task uses. The zero id means none.
	Group PlacementGroupID
	// Bundle is which one, counted from 1. Zero means any.
	Bundle int
	// Outputs is how many objects the task makes. Zero means 1.
	Outputs int
	// Recompute says that the task gives the same results when it runs again, so that outputs which are lost may be computed anew.
	Recompute bool
	// WaitForNodes keeps a request pending that no node can meet now, rather than refuse it.
	WaitForNodes bool
	// InlineBytes is how large an output may be to travel with the outcome. Zero means 8 KiB, a negative number none.
	InlineBytes int
	// Checkpoint is a folder, s3://bucket/prefix or a path, where outputs are written durably before the task counts as done.
	Checkpoint string
}

// Arg is one argument of a task: a reference to an object, or a value. Make one with Ref or Value.
type Arg struct {
	// Ref is the object; it counts if Value is nil.
	Ref ObjectRef
	// Value is the Arrow IPC stream of a table of at most MaxInlineObjectBytes.
	Value []byte
}

// Ref is an argument that is an object, which may not exist yet.
func Ref(ref ObjectRef) Arg { return Arg{Ref: ref} }

// Value is an argument that travels with the task: the Arrow IPC stream of a table. The client has a helper that encodes records.
func Value(stream []byte) Arg { return Arg{Value: stream} }

// PlacementGroupID names a placement group.
type PlacementGroupID [16]byte

// String returns the id as 32 hexadecimal digits.
func (id PlacementGroupID) String() string { return hex.EncodeToString(id[:]) }

// NewPlacementGroupID returns a random id.
func NewPlacementGroupID() PlacementGroupID { return PlacementGroupID(NewObjectID()) }

// PlacementStrategy says how the bundles of a placement group lie on nodes.
type PlacementStrategy string

// The strategies.
const (
	// PlacePack puts bundles on as few nodes as possible.
	PlacePack PlacementStrategy = "PACK"
	// PlaceSpread puts them on as many as possible.
	PlaceSpread PlacementStrategy = "SPREAD"
	// PlaceStrictPack puts all on one node, or none.
	PlaceStrictPack PlacementStrategy = "STRICT_PACK"
	// PlaceStrictSpread puts each on a node of its own, or none.
	PlaceStrictSpread PlacementStrategy = "STRICT_SPREAD"
)

// TaskState is where a task stands.
type TaskState string

// The states of a task.
const (
	// TaskPendingArguments waits for arguments that do not exist yet.
	TaskPendingArguments TaskState = "PENDING_ARGUMENTS"
	// TaskPending waits for a node.
	TaskPending TaskState = "PENDING"
	// TaskRunning is with a worker.
	TaskRunning TaskState = "RUNNING"
	// TaskSucceeded has ended well.
	TaskSucceeded TaskState = "SUCCEEDED"
	// TaskFailed has failed.
	TaskFailed TaskState = "FAILED"
	// TaskCancelled was cancelled.
	TaskCancelled TaskState = "CANCELLED"
)
