package tasks

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The bounds and defaults of a template.
const (
	defaultQueue    = "default"
	defaultAttempts = 4
	maxAttempts     = 1_000
	defaultHang     = time.Minute
	maxPriority     = 1_000_000
	maxLabels       = 64
	maxNameBytes    = 200
	maxTextBytes    = 4 << 10
)

// template is what tasks have in common: one for all streams that carry an equal one.
type template struct {
	// key is the deterministic wire form. wire has the head's number and is not changed any more: messages to workers share it.
	key  string
	wire *enginev1.TaskTemplate
	// base is the key of the class of its tasks, apart from the session and the node that they prefer.
	base  string
	name  string
	queue *queue
	// request and need are what a task takes.
	request engine.Resources
	need    usage.Amounts
	// group is the placement group, "" for none; bundle is which one, or -1.
	group       string
	bundle      int
	maxAttempts int
	timeout     time.Duration
	hangAfter   time.Duration
	outputs     int
	// err is why no task of it can run.
	err *enginev1.Error
	// users counts the tasks and streams that refer to it, lineage those of the tasks that are kept to be run again.
	users   int
	lineage int
	summary *summary
	// mean is how long a task runs, in nanoseconds; 0 until one has.
	mean float64
}

const opSubmit = "submit task"

func refuse(format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindInvalidArgument, opSubmit, "", format, args...)
}

// internTemplate returns the template for a wire form, which belongs to the core from now on, with one more user.
func (c *Core) internTemplate(wire *enginev1.TaskTemplate) *template {
	wire.Number = 0
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(wire)
	if err != nil { // A text that is not UTF-8: the message came over the wire, so this does not happen there.
		encoded = strconv.AppendUint([]byte("invalid "), c.templateNumber+1, 10)
	}
	if known := c.templates[string(encoded)]; known != nil {
		known.users++
		return known
	}
	c.templateNumber++
	wire.Number = uint32(c.templateNumber) //nolint:gosec // Four billion templates do not come.
	t := &template{key: string(encoded), wire: wire, users: 1, bundle: -1}
	if err == nil {
		err = c.readTemplate(t)
	}
	if err != nil {
		t.err = rpc.ToProto(err)
	}
	if t.queue == nil {
		t.queue = c.queueOf(defaultQueue)
	}
	t.queue.users++
	if name, operator := cmp.Or(t.name, wire.GetOperator()), wire.GetOperator(); t.err == nil {
		t.summary = c.summaryOf(name, operator)
	} else { // Its names may have any length, and a summary stays.
		t.summary = c.summaryOf(abridge(name), abridge(operator))
	}
	c.templates[t.key] = t
	c.bytes += t.size()
	return t
}

// size is about what the template costs in memory.
func (t *template) size() int64 { return int64(2*len(t.key)) + taskOverhead }

// dropTemplate takes a user away. Nodes that know a template without users are told to forget it.
func (c *Core) dropTemplate(t *template) {
	if t.users--; t.users > 0 {
		return
	}
	delete(c.templates, t.key)
	c.bytes -= t.size()
	if t.queue.users--; t.queue.users == 0 && !t.queue.set {
		delete(c.queues, t.queue.name)
	}
	for _, n := range c.nodes {
		if _, knows := n.knows[t.wire.GetNumber()]; knows {
			delete(n.knows, t.wire.GetNumber())
			n.retired = append(n.retired, t.wire.GetNumber())
			c.wakeNode(n)
		}
	}
}

// readTemplate checks a wire form and fills in what follows from it.
func (c *Core) readTemplate(t *template) error {
	wire := t.wire
	t.name = cmp.Or(wire.GetName(), wire.GetOperator())
	t.outputs = int(max(1, wire.GetOutputs()))
	t.maxAttempts = int(cmp.Or(wire.GetMaxAttempts(), defaultAttempts))
	t.timeout = wire.GetTimeout().AsDuration()
	t.hangAfter = cmp.Or(wire.GetHangAfter().AsDuration(), defaultHang)
	placement := wire.GetPlacement()
	switch {
	case wire.GetOperator() == "" || len(wire.GetOperator()) > maxNameBytes:
		return refuse("an operator's name of 1 to %d bytes is required, found %d bytes", maxNameBytes, len(wire.GetOperator()))
	case len(wire.GetName()) > maxNameBytes:
		return refuse("name: %d bytes, at most %d are allowed", len(wire.GetName()), maxNameBytes)
	case len(wire.GetParams()) > engine.MaxTaskParamsBytes:
		return refuse("params: %s, at most %s are allowed", engine.FormatSize(int64(len(wire.GetParams()))), engine.FormatSize(engine.MaxTaskParamsBytes))
	case wire.GetQueue() != "" && engine.CheckSubmissionID(wire.GetQueue()) != nil:
		return refuse("queue: %q is no name of a queue: use 1 to 200 letters, digits, and ._:/@+-", abridge(wire.GetQueue()))
	case wire.GetPriority() < -maxPriority || wire.GetPriority() > maxPriority:
		return refuse("priority: %d must be between -%d and %d", wire.GetPriority(), maxPriority, maxPriority)
	case t.maxAttempts < 1 || t.maxAttempts > maxAttempts:
		return refuse("max_attempts: %d must be between 1 and %d, or 0 for %d", wire.GetMaxAttempts(), maxAttempts, defaultAttempts)
	case t.timeout < 0 || t.hangAfter < 0:
		return refuse("a timeout of %v is negative", min(t.timeout, t.hangAfter))
	case wire.GetOutputs() < 0 || wire.GetOutputs() > engine.MaxTaskOutputs:
		return refuse("outputs: %d must be between 1 and %d, or 0 for 1", wire.GetOutputs(), engine.MaxTaskOutputs)
	case wire.GetInlineBytes() > engine.MaxInlineObjectBytes:
		return refuse("inline_bytes: %d, at most %d are allowed", wire.GetInlineBytes(), engine.MaxInlineObjectBytes)
	case len(wire.GetCheckpoint()) > maxTextBytes || len(wire.GetTraceParent()) > maxTextBytes:
		return refuse("checkpoint or trace_parent: more than %d bytes", maxTextBytes)
	case len(placement.GetNodeLabels()) > maxLabels:
		return refuse("placement.node_labels: %d labels, at most %d are allowed", len(placement.GetNodeLabels()), maxLabels)
	case placement.GetSoft() && placement.GetNodeId() == "":
		return refuse("placement.soft without placement.node_id")
	}
	t.queue = c.queueOf(cmp.Or(wire.GetQueue(), defaultQueue))
	request, err := rpc.ResourcesFromProto(wire.GetResources())
	if err != nil {
		return engine.WrapError(opSubmit, "", err)
	}
	if wire.GetResources() == nil || wire.Resources.Cpu == nil {
		request.CPU = 1
	}
	if err := request.Validate(); err != nil {
		return engine.WrapError(opSubmit, "", err)
	}
	t.request, t.need = request, usage.Of(request)
	if err := t.readGroup(placement); err != nil {
		return err
	}
	t.base = t.classKey()
	return nil
}

func (t *template) readGroup(placement *enginev1.TaskPlacement) error {
	id := placement.GetPlacementGroupId()
	if len(id) == 0 {
		return nil
	}
	if len(id) != len(engine.PlacementGroupID{}) {
		return refuse("placement.placement_group_id: expected %d bytes, found %d", len(engine.PlacementGroupID{}), len(id))
	}
	if placement.GetBundle() < -1 {
		return refuse("placement.bundle: %d must be at least 0, or -1 for any", placement.GetBundle())
	}
	t.group, t.bundle = engine.PlacementGroupID(id).String(), int(placement.GetBundle())
	return nil
}

// classKey is equal for templates whose tasks are alike to the scheduler.
func (t *template) classKey() string {
	wire, placement := t.wire, t.wire.GetPlacement()
	key := strconv.AppendQuote(nil, t.queue.name)
	key = strconv.AppendQuote(key, wire.GetOperator())
	number := func(v int64) { key = strconv.AppendInt(append(key, '|'), v, 36) }
	flag := func(v bool) { key = strconv.AppendBool(append(key, '|'), v) }
	number(int64(wire.GetPriority()))
	amount := func(v float64) { key = strconv.AppendFloat(append(key, '|'), v, 'g', -1, 64) }
	amount(t.request.CPU)
	amount(t.request.GPU)
	number(t.request.MemoryBytes)
	number(t.request.GPUMemoryBytes)
	for _, name := range slices.Sorted(maps.Keys(t.request.Custom)) {
		key = strconv.AppendQuote(append(key, '|'), name)
		amount(t.request.Custom[name])
	}
	for _, name := range slices.Sorted(maps.Keys(placement.GetNodeLabels())) {
		key = strconv.AppendQuote(strconv.AppendQuote(append(key, '|'), name), placement.GetNodeLabels()[name])
	}
	key = strconv.AppendQuote(append(key, '|'), placement.GetNodeId())
	flag(placement.GetSoft())
	flag(placement.GetSpread())
	flag(wire.GetWaitForNodes())
	flag(t.maxAttempts > 1)
	key = append(append(key, '|'), t.group...)
	number(int64(t.bundle))
	return string(key)
}

// abridge cuts a text for a message.
func abridge(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return rpc.Text(text[:most]) + "…"
}
