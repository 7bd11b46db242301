package jobs

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Objects is the cluster's directory of objects, as jobs need it. It is safe for concurrent use.
type Objects interface {
	// ClusterID is the cluster's id.
	ClusterID() string
	// Describe returns what is known of objects by their ids and by the names of pins. What is not known is left out.
	Describe(ctx context.Context, ids []engine.ObjectID, names []string) ([]*enginev1.ObjectInfo, error)
	// Schema returns an object's schema as an Arrow IPC stream. An object that has a checkpoint alone is brought back.
	Schema(ctx context.Context, id engine.ObjectID) ([]byte, error)
	// Restore makes an object of a checkpoint, under the id that it says, in a security domain; an empty one is the stores' default. If it is
	// there, owner becomes an owner of it.
	Restore(ctx context.Context, uri, domain string, owner engine.ObjectOwner) (*enginev1.ObjectInfo, error)
	// Hold makes somebody an owner of objects, or moves the end of one who is, and returns when their stores have done so or ctx ends.
	// The error is of kind engine.KindNotFound for an object that nobody knows, engine.KindUnavailable for one that is lost,
	// engine.KindConflict for a pin whose name is another object's.
	Hold(ctx context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error
	// Release ends somebody's references to objects. It is no error if there are none.
	Release(ctx context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error
	// Wait returns when count of the objects can be read, or ctx ends, or with an error if there will never be enough.
	Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error)
	// Lost returns those of some objects that are lost, after it has heard what connected stores have.
	Lost(ctx context.Context, ids []engine.ObjectID) ([]objects.Asked, error)
	// Remade says that a lost object was made again, or cannot be: those who wait for it hear the error.
	Remade(id engine.ObjectID, err error)
	// Revive makes ids usable again that were deleted: their objects are about to be made again.
	Revive(ids []engine.ObjectID)
	// Locate says where objects are; those that cannot be read are left out. It does not wait.
	Locate(ids []engine.ObjectID) []objects.Location
	// EndOwner ends all references of an owner, also in stores that are heard of later. It does not wait for them.
	EndOwner(owner engine.ObjectOwner)
}

// holders returns where each task of a planned job finds what it reads; nil for a job that reads no objects.
func (m *Manager) holders(plan *enginev1.Plan) func(task int) []engine.NodeID {
	inputs := jobplan.InputObjects(plan)
	if len(inputs) == 0 || m.config.Objects == nil {
		return nil
	}
	nodes := map[string][]engine.NodeID{}
	for _, at := range m.config.Objects.Locate(inputs) {
		nodes[string(at.ID[:])] = at.Nodes
	}
	return func(task int) []engine.NodeID {
		// A task reads splits of objects that follow each other: the first stands for all.
		splits := plan.GetTasks()[task].GetSplits()
		if len(splits) == 0 {
			return nil
		}
		return nodes[string(plan.GetInputs()[splits[0].GetInput()].GetObjectId())]
	}
}

var errNoObjects = engine.Errorf(engine.KindInvalidArgument, "submit job", "", "this head has no object store")

// holdInputs makes a job an owner of the objects that it reads, so that they are not deleted under it. What it reads from checkpoints is
// there again then.
func (m *Manager) holdInputs(ctx context.Context, job *state.Job, plan *enginev1.Plan) error {
	inputs := jobplan.InputObjects(plan)
	switch {
	case len(inputs) == 0:
		return nil
	case m.config.Objects == nil:
		return errNoObjects
	}
	if err := m.recover(ctx, inputs, 0); err != nil {
		return engine.WrapError("hold inputs", string(job.ID), err)
	}
	owner := jobplan.JobOwner(job.ID)
	if job.Plan != nil { // Else planning has just done it.
		var uris []string
		for _, ref := range job.Spec.GetSource().GetObject().GetRefs() {
			if name, err := object.ParseName(ref); err == nil && name.Checkpoint != "" {
				uris = append(uris, name.Checkpoint)
			}
		}
		if err := restoreAll(ctx, m.config.Objects, uris, job.Queue(), owner); err != nil {
			return engine.WrapError("hold inputs", string(job.ID), err)
		}
	}
	return engine.WrapError("hold inputs", string(job.ID), holdAll(ctx, m.config.Objects, inputs, owner))
}

// inOneCall bounds the objects of one call, each of which may be a request to the same store.
const inOneCall = 1_000

// holdAll makes somebody an owner of any number of objects.
func holdAll(ctx context.Context, directory Objects, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	for some := range slices.Chunk(ids, inOneCall) {
		if err := directory.Hold(ctx, some, owner); err != nil {
			return err
		}
	}
	return nil
}

// restoreAll makes objects of checkpoints, in a security domain, and somebody an owner of them.
func restoreAll(ctx context.Context, directory Objects, uris []string, domain string, owner engine.ObjectOwner) error {
	return forEach(ctx, len(uris), func(ctx context.Context, i int) error {
		_, err := directory.Restore(ctx, uris[i], domain, owner)
		return err
	})
}

// atOnce is how many objects of one job are looked at, restored, or pinned at a time.
const atOnce = 64

// forEach calls act for the numbers below n, for several at a time, until one fails.
func forEach(ctx context.Context, n int, act func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		group.Go(func() error { return act(ctx, i) })
	}
	return group.Wait()
}

// freeWithin is how long the end of a job waits for the stores that hold its inputs.
const freeWithin = 10 * time.Second

// freeInputs gives the objects back that a job has read. What cannot be freed now is freed when the job is forgotten.
func (m *Manager) freeInputs(ctx context.Context, id engine.JobID, plan *enginev1.Plan) {
	if inputs := jobplan.InputObjects(plan); len(inputs) > 0 && m.config.Objects != nil {
		m.release(ctx, id, inputs)
	}
}

// release gives objects back that a job has read, or does not keep any more.
func (m *Manager) release(ctx context.Context, id engine.JobID, inputs []engine.ObjectID) {
	ctx, cancel := context.WithTimeout(ctx, freeWithin)
	defer cancel()
	for some := range slices.Chunk(inputs, inOneCall) {
		if err := m.config.Objects.Release(ctx, some, jobplan.JobOwner(id)); err != nil {
			m.logger.WarnContext(ctx, "objects of a job that has ended are held until it is forgotten", "job", id, "error", err)
			return
		}
	}
}

// reviveOutputs prepares for the outputs that a job is to make which ran before. What its attempts left then, without having committed it,
// may have been deleted by somebody since, and would count as deleted when it is made again under the same id.
func (m *Manager) reviveOutputs(job *state.Job) {
	if m.config.Objects == nil || job.Spec.GetSink().GetObject() == nil {
		return
	}
	var missing []engine.ObjectID
	for i, committed := range job.Committed {
		if committed == nil {
			missing = append(missing, engine.OutputObjectID(engine.TaskID{Job: job.ID, Index: i}, 0))
		}
	}
	m.config.Objects.Revive(missing)
}

// freeOutputs ends what a job that is forgotten still owns.
func (m *Manager) freeOutputs(id engine.JobID) {
	if m.config.Objects != nil {
		m.config.Objects.EndOwner(jobplan.JobOwner(id))
	}
}

// KnowsOwner reports whether an owner of objects is one that the head still has something to do with: every owner but a job that is
// forgotten. A store may bring such a job's objects back after it was away.
func (m *Manager) KnowsOwner(owner engine.ObjectOwner) (known bool) {
	if owner.Kind != engine.OwnerJob {
		return true
	}
	m.store.View(func(s *state.State) { known = s.Job(owner.ID) != nil })
	return known
}
