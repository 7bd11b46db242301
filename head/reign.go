package head

import (
	"context"
	"errors"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/history"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/observe"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/gossip"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// reign is all that a head does because it leads, for one term: it drives the jobs, decides who holds which task, and knows where the
// objects are. Nothing of it outlives the term.
type reign struct {
	term state.Term
	// manager's jobs run in the group jobs, everything else in serve.
	manager *jobs.Manager
	jobs    *lifecycle.Group
	serve   *lifecycle.Group
	court   *court
	// observed are the parts that metrics tell of.
	observed *observe.Reign
	// gossip is nil if the head does not.
	gossip *gossip.Member
}

// newReign takes up the jobs that have not ended, and makes the services. Nothing is served yet.
func (h *Head) newReign(term state.Term) *reign {
	r := &reign{
		term: term, court: newCourt(),
		jobs: lifecycle.NewGroup(context.Background(), "jobs"), serve: lifecycle.NewGroup(context.Background(), "term"),
	}
	dispatchConfig, jobsConfig := h.config.Dispatch, h.config.Jobs
	dispatchConfig.Term = term.Number
	h.store.View(func(s *state.State) { dispatchConfig.ClusterID = s.ClusterID })
	dispatchConfig.FailInfeasible = h.config.Embedded
	leads := newConfirmation(h.store, dispatchConfig.LeaseTimeOrDefault())
	if !h.config.Embedded && dispatchConfig.Term > 1 {
		jobsConfig.AssignDelay = dispatchConfig.LeaseTimeOrDefault()
		if !leads.alone.Load() {
			jobsConfig.AssignDelay += leads.within // The head before may have renewed leases for so long.
		}
		dispatchConfig.AssignAfter = time.Now().Add(jobsConfig.AssignDelay)
	}
	// An embedded cluster's store begins empty in every term, so there is nothing to learn of earlier ones.
	directoryTerm := dispatchConfig.Term
	if h.config.Embedded {
		directoryTerm = 1
	}
	directory := objects.NewDirectory(objects.Config{
		ClusterID: dispatchConfig.ClusterID, Term: directoryTerm, LeaseTime: dispatchConfig.LeaseTimeOrDefault(), Remade: true,
		Remake: func(asked objects.Asked) { r.manager.Remake(asked) },
		Lost: func(loss objects.Loss) {
			if h.events != nil && loss.Lost > 0 {
				h.events.Lost(loss.Node, loss.Lost)
			}
		},
		Known: func(owner engine.ObjectOwner) bool { return r.manager.KnowsOwner(owner) },
	}, h.config.Logger, nil)
	dispatchConfig.Full = directory.Full
	jobsConfig.Objects, jobsConfig.Ephemeral = directory, h.config.Embedded
	r.manager = jobs.New(jobsConfig, h.store, h.logs, r.jobs, h.config.Logger)
	hooks := h.hooks(r.manager, directory)
	hooks.Leads = leads.holds
	dispatcher := dispatch.NewDispatcher(dispatchConfig, hooks, nil)
	if err := api.UseState(h.store, dispatcher); err != nil {
		h.config.Logger.Error("a queue that is recorded cannot be used; all count as if nobody had set them", "error", err)
	}
	r.manager.Attach(dispatcher)
	jobsServer := api.NewJobs(h.store, r.manager)
	directory.Subscribe(dispatcher.HearObjects)
	if h.events != nil {
		watch := history.Sources{
			Store: h.store, Dispatcher: dispatcher, Term: term.Number, Logger: h.config.Logger,
			Job: func(ctx context.Context, id engine.JobID) (*enginev1.Job, error) {
				response, err := jobsServer.GetJob(access.With(ctx, access.Internal), &enginev1.GetJobRequest{JobId: string(id)})
				return response.GetJob(), err
			},
		}
		r.serve.Go("history", func(ctx context.Context) error { return h.events.Watch(ctx, watch) })
	}
	r.observed = &observe.Reign{Dispatcher: dispatcher, Directory: directory}

	r.gossip = h.startGossip(term.Number, dispatchConfig.ClusterID, dispatcher)
	h.gossip.Store(r.gossip)
	enginev1.RegisterJobServiceServer(r.court, jobsServer)
	enginev1.RegisterClusterServiceServer(r.court, api.NewCluster(h.store, dispatcher, h.config.Version, h.web, h.config.EventLog, h.started))
	enginev1.RegisterWorkerServiceServer(r.court, api.NewWorkers(h.store, dispatcher, directory, h.logs, h.config.Logger, h.Gossip()).HandOut(r.manager.HandOut))
	objectsServer := api.NewObjects(directory)
	enginev1.RegisterObjectServiceServer(r.court, objectsServer)
	enginev1.RegisterAccessServiceServer(r.court, api.NewAccess(h.store, h.book))
	enginev1.RegisterTaskServiceServer(r.court, api.NewTasks(dispatcher, objectsServer))
	h.serveJoins(r)
	r.serve.Go("tick", dispatcher.Run)
	r.serve.Go("objects", directory.Run)
	r.serve.Go("confirm", leads.run)
	return r
}

// hooks are what the dispatcher calls: what concerns jobs is the manager's.
func (h *Head) hooks(manager *jobs.Manager, directory *objects.Directory) dispatch.Hooks {
	hooks := manager.Hooks()
	hooks.Attempt = observe.Span
	hooks.Watch, hooks.Unwatch, hooks.GiveUp = directory.Watch, directory.Unwatch, directory.GiveUp
	hooks.Drained = func(node engine.NodeID) {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_NodeDrained{NodeDrained: &enginev1.NodeDrained{NodeId: string(node)}}}
		h.store.ProposeAsync(context.Background(), func(err error) {
			if err != nil {
				h.config.Logger.Warn("it was not recorded that a node has left which was to", "node", node, "error", err)
			}
		}, entry)
	}
	return hooks
}

// end ends what newReign began, after its calls. Jobs that have not ended stay as they are, durable, for the next term. What has not
// ended when ctx does is cut off, and named by the error.
func (r *reign) end(ctx context.Context, g *gate, patience time.Duration) error {
	r.manager.Close()
	err := g.shut(ctx, r.court, patience)
	if r.gossip != nil {
		err = errors.Join(err, r.gossip.Shutdown(ctx))
	}
	return errors.Join(err, r.jobs.Stop(ctx), r.serve.Stop(ctx))
}
