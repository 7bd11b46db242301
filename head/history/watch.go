package history

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// watchEvery is how often the head is looked at; it remembers what has ended for much longer.
const watchEvery = time.Second

// Sources are where a watcher looks.
type Sources struct {
	// Store and Dispatcher are those of the head that leads, Term its term.
	Store      *state.Store
	Dispatcher *dispatch.Dispatcher
	Term       uint64
	// Job describes a job as clients see it.
	Job func(context.Context, engine.JobID) (*enginev1.Job, error)
	// Logger hears of jobs that cannot be described.
	Logger *slog.Logger
}

// runKey is one run of a job.
type runKey struct {
	job engine.JobID
	run int32
}

// watcher compares what there is with what there was. Whatever was missed meanwhile, a comparison finds.
type watcher struct {
	log     *Log
	sources Sources
	cluster string
	// told are the ends of jobs that have been recorded.
	told   map[runKey]bool
	nodes  map[engine.NodeID]enginev1.NodeState
	queues map[string]*enginev1.Queue
	heads  string
}

// Watch records what happens in a head's term until ctx ends. What the log has already of ended jobs is not recorded again, as far as its
// latest segments tell.
func (l *Log) Watch(ctx context.Context, sources Sources) error {
	const segmentsToRead = 3
	told, err := recent(ctx, l.config.Bucket, segmentsToRead)
	if err != nil && ctx.Err() == nil {
		sources.Logger.WarnContext(ctx, "the event log cannot be read; some ends of jobs may be recorded twice", "log", l.config.Bucket.URI(), "error", err)
	}
	if told == nil {
		told = map[runKey]bool{}
	}
	w := &watcher{log: l, sources: sources, told: told, nodes: map[engine.NodeID]enginev1.NodeState{}}
	sources.Store.View(func(s *state.State) { w.cluster = s.ClusterID })
	w.record(Event{Kind: HeadLeads, Details: map[string]string{"head": sources.Store.HeadID()}})
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.look(context.WithoutCancel(ctx)) // What ended just now.
			return nil
		}
	}
}

func (w *watcher) record(e Event) {
	e.Cluster, e.Term = w.cluster, w.sources.Term
	w.log.Record(e)
}

func (w *watcher) look(ctx context.Context) {
	w.lookAtJobs(ctx)
	w.lookAtNodes()
	w.lookAtQueues()
	var heads []string
	for _, head := range w.sources.Store.Heads() {
		heads = append(heads, head.ID+" at "+head.Address)
	}
	if now := strings.Join(heads, ", "); now != w.heads {
		w.heads = now
		w.record(Event{Kind: HeadsChanged, Details: map[string]string{"heads": now}})
	}
}

func (w *watcher) lookAtJobs(ctx context.Context) {
	var ended []runKey
	known := make(map[runKey]bool, len(w.told))
	w.sources.Store.View(func(s *state.State) {
		for _, job := range s.Jobs() {
			if job.Ended == nil {
				continue
			}
			key := runKey{job.ID, job.Resumptions}
			if known[key] = w.told[key]; !w.told[key] {
				ended = append(ended, key)
			}
		}
	})
	w.told = known // What the state has forgotten never ends again.
	for _, key := range ended {
		job, err := w.sources.Job(ctx, key.job)
		if engine.KindOf(err) == engine.KindNotFound && err != nil {
			continue
		}
		var text []byte
		if err == nil {
			text, err = textOf(job)
		}
		if err != nil {
			w.sources.Logger.WarnContext(ctx, "the end of a job is missing in the event log", "job", key.job, "error", err)
		} else {
			w.record(Event{Kind: JobEnded, Time: job.GetEndTime().AsTime(), Job: text, Run: key.run})
		}
		w.told[key] = true
	}
}

// maxJobBytes bounds what is kept of a job.
const maxJobBytes = 1 << 20

// textOf is a job as an event has it. Of a large one the outputs are left out, and then the spec.
func textOf(job *enginev1.Job) ([]byte, error) {
	text, err := protojson.Marshal(job)
	for _, shorten := range []func(*enginev1.Job){func(j *enginev1.Job) { j.Outputs = nil }, func(j *enginev1.Job) { j.Spec = nil }} {
		if err != nil || len(text) <= maxJobBytes {
			break
		}
		job = proto.CloneOf(job)
		shorten(job)
		text, err = protojson.Marshal(job)
	}
	return text, err
}

func (w *watcher) lookAtNodes() {
	views := w.sources.Dispatcher.Nodes()
	now := make(map[engine.NodeID]enginev1.NodeState, len(views))
	for _, view := range views {
		now[view.ID] = view.State
		before, known := w.nodes[view.ID]
		if known && before == view.State {
			continue
		}
		if !known || before == enginev1.NodeState_NODE_STATE_DEAD {
			w.record(Event{Kind: NodeJoined, Time: view.Joined, Node: string(view.ID), Details: map[string]string{
				"host": view.Hello.GetHost(), "version": view.Hello.GetVersion(), "cpu": strconv.FormatFloat(view.Total.CPU, 'g', -1, 64),
			}})
		}
		switch view.State {
		case enginev1.NodeState_NODE_STATE_DRAINING:
			w.record(Event{Kind: NodeDraining, Node: string(view.ID)})
		case enginev1.NodeState_NODE_STATE_DEAD:
			w.record(Event{Kind: NodeLeft, Node: string(view.ID)})
		case enginev1.NodeState_NODE_STATE_UNSPECIFIED, enginev1.NodeState_NODE_STATE_ALIVE:
		}
	}
	w.nodes = now
}

func (w *watcher) lookAtQueues() {
	now := map[string]*enginev1.Queue{}
	w.sources.Store.View(func(s *state.State) {
		for _, q := range s.Queues() {
			now[q.GetName()] = q
		}
	})
	for name, q := range now {
		if w.queues != nil && !proto.Equal(q, w.queues[name]) {
			w.record(Event{Kind: QueueSet, Queue: name, Details: map[string]string{
				"weight": strconv.FormatFloat(q.GetWeight(), 'g', -1, 64), "priority": strconv.Itoa(int(q.GetPriority())),
			}})
		}
	}
	for name := range w.queues {
		if now[name] == nil {
			w.record(Event{Kind: QueueDeleted, Queue: name})
		}
	}
	w.queues = now
}

// Lost records that objects were lost with a node.
func (l *Log) Lost(node engine.NodeID, objects int) {
	l.Record(Event{Kind: ObjectsLost, Node: string(node), Details: map[string]string{"objects": strconv.Itoa(objects)}})
}
