package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// templateKey is all that tasks of one template have in common, so that equal ones are found by a look into a map. Maps are texts in it.
type templateKey struct {
	operator, params, name, queue, labels, custom, checkpoint, trace string
	node                                                             engine.NodeID
	cpu, gpu                                                         float64
	memory, gpuMemory                                                int64
	timeout, hangAfter                                               time.Duration
	priority, maxAttempts, bundle, outputs, inline                   int
	group                                                            engine.PlacementGroupID
	noResources, soft, spread, recompute, waitForNodes               bool
}

// template is a task's template as it is sent. The client's lock guards what is not constant.
type template struct {
	key  templateKey
	wire *enginev1.TaskTemplate
	// stream is the stream that has carried it under the wire's number; 0 if none has.
	stream uint64
	// users counts the unfinished tasks.
	users int
}

// keyOf returns a task's key. Its parameters are encoded in it, everything else may be wrong.
func keyOf(task *engine.Task) (templateKey, error) {
	o := &task.TaskOptions
	key := templateKey{
		operator: task.Operator, name: o.Name, queue: o.Queue, node: o.Node, checkpoint: o.Checkpoint,
		cpu: task.Resources.CPU, gpu: task.Resources.GPU, memory: task.Resources.MemoryBytes, gpuMemory: task.Resources.GPUMemoryBytes,
		timeout: o.Timeout, hangAfter: o.HangAfter, priority: o.Priority, maxAttempts: o.MaxAttempts, bundle: o.Bundle, outputs: o.Outputs,
		inline: o.InlineBytes, group: o.Group, noResources: task.NoResources, soft: o.Soft, spread: o.Spread, recompute: o.Recompute,
		waitForNodes: o.WaitForNodes,
	}
	if len(o.NodeLabels) > 0 {
		key.labels = textOf(o.NodeLabels)
	}
	if len(task.Resources.Custom) > 0 {
		key.custom = textOf(task.Resources.Custom)
	}
	switch params := task.Params.(type) {
	case nil:
	case []byte:
		key.params = string(params)
	default:
		encoded, err := json.Marshal(params)
		if err != nil {
			return key, invalidTask("the parameters cannot be written as JSON: %w", err)
		}
		key.params = string(encoded)
	}
	return key, nil
}

// textOf is a text that two maps share only if they are equal.
func textOf[V string | float64](values map[string]V) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text.WriteString(strconv.Quote(name))
		fmt.Fprintf(&text, "%q", fmt.Sprint(values[name]))
	}
	return text.String()
}

func invalidTask(format string, args ...any) error {
	return engine.Errorf(engine.KindInvalidArgument, "run task", "", format, args...)
}

// newTemplate makes the template of a task that has the key, and refuses what can never work.
func newTemplate(key templateKey, task *engine.Task) (*template, error) {
	if err := checkTask(key, task); err != nil {
		return nil, err
	}
	o := &task.TaskOptions
	wire := &enginev1.TaskTemplate{
		Operator: task.Operator, Params: []byte(key.params), Name: o.Name, Queue: o.Queue, Priority: int32(o.Priority), MaxAttempts: int32(o.MaxAttempts), //nolint:gosec // Checked.
		Outputs: int32(o.Outputs), Recompute: o.Recompute, WaitForNodes: o.WaitForNodes, InlineBytes: int32(o.InlineBytes), Checkpoint: o.Checkpoint, //nolint:gosec // Checked.
		TraceParent: key.trace,
	}
	// The maps are the caller's, who may change them once the call has returned.
	resources := task.Resources
	resources.Custom = maps.Clone(resources.Custom)
	switch {
	case task.NoResources:
		wire.Resources = rpc.ResourcesToProto(engine.Resources{})
	case key.cpu != 0 || key.gpu != 0 || key.memory != 0 || key.gpuMemory != 0 || key.custom != "":
		wire.Resources = rpc.ResourcesToProto(resources)
	}
	if o.Timeout != 0 {
		wire.Timeout = durationpb.New(o.Timeout)
	}
	if o.HangAfter != 0 {
		wire.HangAfter = durationpb.New(o.HangAfter)
	}
	if placed := o.Group != (engine.PlacementGroupID{}); placed || key.labels != "" || o.Node != "" || o.Spread {
		wire.Placement = &enginev1.TaskPlacement{NodeLabels: maps.Clone(o.NodeLabels), NodeId: string(o.Node), Soft: o.Soft, Spread: o.Spread}
		if placed {
			wire.Placement.PlacementGroupId = o.Group[:]
			wire.Placement.Bundle = int32(o.Bundle) - 1 //nolint:gosec // Checked.
		}
	}
	return &template{key: key, wire: wire}, nil
}

// checkTask refuses what the head would, where the wire could not even carry it or the program learns of it earlier so.
func checkTask(key templateKey, task *engine.Task) error {
	o := &task.TaskOptions
	nothing := task.Resources.Custom == nil && task.Resources.CPU == 0 && task.Resources.GPU == 0 && task.Resources.MemoryBytes == 0 && task.Resources.GPUMemoryBytes == 0
	switch {
	case task.Operator == "":
		return invalidTask("it names no operator")
	case len(key.params) > engine.MaxTaskParamsBytes:
		return invalidTask("the parameters have %s, at most %s are allowed", engine.FormatSize(int64(len(key.params))), engine.FormatSize(engine.MaxTaskParamsBytes))
	case task.NoResources && !nothing:
		return invalidTask("it asks for %v and says NoResources", task.Resources)
	case o.Timeout < 0 || o.HangAfter < 0:
		return invalidTask("a timeout of %v is negative", min(o.Timeout, o.HangAfter))
	case o.Soft && o.Node == "":
		return invalidTask("Soft without a node")
	case o.Bundle != 0 && o.Group == engine.PlacementGroupID{}:
		return invalidTask("a bundle without a placement group")
	}
	for _, number := range []struct {
		name               string
		value, least, most int
	}{
		{"priority", o.Priority, math.MinInt32, math.MaxInt32},
		{"number of attempts", o.MaxAttempts, 0, math.MaxInt32},
		{"number of outputs", o.Outputs, 0, engine.MaxTaskOutputs},
		{"size of inline outputs", o.InlineBytes, math.MinInt32, engine.MaxInlineObjectBytes},
		{"bundle", o.Bundle, 0, math.MaxInt32},
	} {
		if number.value < number.least || number.value > number.most {
			return invalidTask("a %s of %d is not between %d and %d", number.name, number.value, number.least, number.most)
		}
	}
	return engine.WrapError("run task", "", task.Resources.Validate())
}

// checkArgs refuses arguments that can never be one.
func checkArgs(args []engine.Arg) error {
	if len(args) > engine.MaxTaskArguments {
		return invalidTask("it has %d arguments, at most %d are allowed", len(args), engine.MaxTaskArguments)
	}
	for i := range args {
		switch arg := &args[i]; {
		case arg.Value == nil && arg.Ref.ID == (engine.ObjectID{}):
			return invalidTask("argument %d is neither a value nor an object", i)
		case len(arg.Value) > engine.MaxInlineObjectBytes:
			return engine.Errorf(engine.KindInvalidArgument, "run task", "", "argument %d is a value of %s, at most %s are allowed", i,
				engine.FormatSize(int64(len(arg.Value))), engine.FormatSize(engine.MaxInlineObjectBytes)).WithHint("Put it and pass the reference")
		}
	}
	return nil
}

// templates are those of the stream and of tasks that wait for one.
type templates struct {
	byKey map[templateKey]*template
	// sweepAt is how many there are when those without users are looked for.
	sweepAt int
	// sent counts those that the stream has carried, and so is the last number given.
	sent uint32
	// retired are the numbers of those that were dropped, not yet told.
	retired []uint32
}

const fewTemplates = 256

// get returns a task's template with one more user.
func (t *templates) get(key templateKey, task *engine.Task, stream uint64) (*template, error) {
	if found := t.byKey[key]; found != nil {
		found.users++
		return found, nil
	}
	made, err := newTemplate(key, task)
	if err != nil {
		return nil, err
	}
	if len(t.byKey) >= max(t.sweepAt, fewTemplates) {
		t.sweep(stream)
	}
	if t.byKey == nil {
		t.byKey = map[templateKey]*template{}
	}
	t.byKey[key], made.users = made, 1
	return made, nil
}

// sweep drops the templates without users. What is left at least doubles before the next time, so that the look costs little a template.
func (t *templates) sweep(stream uint64) {
	for key, one := range t.byKey {
		if one.users > 0 {
			continue
		}
		delete(t.byKey, key)
		if one.stream == stream {
			t.retired = append(t.retired, one.wire.GetNumber())
		}
	}
	t.sweepAt = 2 * len(t.byKey)
}

// number gives a template its number on a stream and reports whether the stream has yet to carry it.
// Nobody may be sending on another one.
func (t *templates) number(one *template, stream uint64) (number uint32, first bool) {
	if first = one.stream != stream; first {
		t.sent++
		one.wire.Number, one.stream = t.sent, stream
	}
	return one.wire.GetNumber(), first
}

// restart forgets what a stream has carried.
func (t *templates) restart() { t.sent, t.retired = 0, nil }
