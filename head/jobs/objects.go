package jobs

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Objects is what jobs need of the cluster's objects. It is safe for concurrent use.
type Objects interface {
	jobplan.Objects
	// Hold makes somebody an owner of an object, or moves the end of one who is, and returns when its store has done so or ctx ends. The
	// error is of kind engine.KindNotFound for an object that nobody knows, engine.KindUnavailable for one that is lost,
	// engine.KindConflict for a pin whose name is another object's.
	Hold(ctx context.Context, id engine.ObjectID, owner engine.ObjectOwner) error
	// Release ends a reference. It is no error if there is none.
	Release(ctx context.Context, id engine.ObjectID, owner engine.ObjectOwner) error
	// EndOwner ends all references of an owner, also in stores that are heard of later. It does not wait for them.
	EndOwner(owner engine.ObjectOwner)
	// Named returns the object of a pin.
	Named(name string) (engine.ObjectID, bool)
}

// changesAtOnce is how many objects change their owners at a time for one job.
const changesAtOnce = 64

// forEach calls change for the place of each object, for several at a time, until one fails.
func forEach(ctx context.Context, ids []engine.ObjectID, change func(ctx context.Context, place int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(changesAtOnce)
	for i := range ids {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return change(ctx, i) })
	}
	return group.Wait()
}

// holdInputs makes a job an owner of the objects that it reads, so that they are not deleted under it.
func (m *Manager) holdInputs(ctx context.Context, id engine.JobID, plan *enginev1.Plan) error {
	inputs := jobplan.InputObjects(plan)
	if len(inputs) == 0 {
		return nil
	}
	if m.config.Objects == nil {
		return errNoObjects
	}
	err := forEach(ctx, inputs, func(ctx context.Context, i int) error {
		return m.config.Objects.Hold(ctx, inputs[i], jobplan.JobOwner(id))
	})
	return engine.WrapError("hold inputs", string(id), err)
}

// planningObjects returns what plans are made with; nil, and not an interface that holds nil, if there is no directory.
func (m *Manager) planningObjects() jobplan.Objects {
	if m.config.Objects == nil {
		return nil
	}
	return m.config.Objects
}

// freeInputs gives the objects back that a job has read. What cannot be freed now is freed when the job is forgotten.
func (m *Manager) freeInputs(ctx context.Context, id engine.JobID, plan *enginev1.Plan) {
	inputs := jobplan.InputObjects(plan)
	if len(inputs) == 0 || m.config.Objects == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, freeWithin)
	defer cancel()
	err := forEach(ctx, inputs, func(ctx context.Context, i int) error {
		return m.config.Objects.Release(ctx, inputs[i], jobplan.JobOwner(id))
	})
	if err != nil {
		m.logger.WarnContext(ctx, "inputs of a job that has ended are held until it is forgotten", "job", id, "error", err)
	}
}

// freeWithin is how long the end of a job waits for the stores that hold its inputs.
const freeWithin = 10 * time.Second

var errNoObjects = engine.Errorf(engine.KindInvalidArgument, "submit job", "", "this head has no object store")

// objectOutput are objects, one for each task, under ids that are the same at every attempt. The job is their owner.
type objectOutput struct {
	jobplan.ObjectOutput
	objects   Objects
	ephemeral bool
}

// place tells jobs apart by the names that they pin.
func (o objectOutput) place() string {
	if o.Name == "" {
		return "objects of job " + string(o.Job)
	}
	return "objects " + o.Name + "/*"
}

// Check implements output.
func (o objectOutput) Check(context.Context) error {
	switch {
	case o.objects == nil:
		return errNoObjects
	case o.ephemeral && o.Checkpoint == "":
		return engine.Errorf(engine.KindInvalidArgument, "", "sink.object", "the objects of an embedded cluster end with it, so nobody could read them").
			WithHint("set sink.object.checkpoint, or submit the job to a cluster")
	}
	if o.Name == "" {
		return nil
	}
	if id, taken := o.objects.Named(o.Pin(0)); taken && id != o.ID(0) {
		return engine.Errorf(engine.KindConflict, "", "sink.object.name", "object %s is pinned as %q already", id, o.Pin(0)).
			WithHint("choose another name, or unpin what has it")
	}
	return nil
}

// Prepare has nothing to do: stores are there already.
func (o objectOutput) Prepare(context.Context) error { return nil }

// Abandon has nothing to do: what was not sealed is gone with its attempt.
func (o objectOutput) Abandon(context.Context) error { return nil }

// complete proves that every output can still be read, pins them, and sets their end. Those of a worker that was lost meanwhile fail the
// job, unless they have a checkpoint.
func (o objectOutput) complete(ctx context.Context, job *state.Job) error {
	if o.objects == nil {
		return errNoObjects
	}
	var expires time.Time
	if o.TTL > 0 {
		expires = time.Now().Add(o.TTL)
	}
	ids := make([]engine.ObjectID, len(job.Committed))
	for i := range ids {
		ids[i] = o.ID(i)
	}
	mine := o.Owner()
	mine.Expires = expires
	err := forEach(ctx, ids, func(ctx context.Context, i int) error {
		err := o.objects.Hold(ctx, ids[i], mine)
		if err != nil || o.Name == "" {
			return err
		}
		return o.objects.Hold(ctx, ids[i], engine.ObjectOwner{Kind: engine.OwnerPin, ID: o.Pin(i), Expires: expires})
	})
	return engine.WrapError("complete output", string(o.Job), err)
}

// checkResume implements output.
func (o objectOutput) checkResume(ctx context.Context, job *state.Job) error {
	if o.objects == nil {
		return errNoObjects
	}
	var ids []engine.ObjectID
	for i, committed := range job.Committed {
		if committed != nil {
			ids = append(ids, o.ID(i))
		}
	}
	// To hold again what the job holds changes nothing, and tells whether it is there.
	return forEach(ctx, ids, func(ctx context.Context, i int) error { return o.objects.Hold(ctx, ids[i], o.Owner()) })
}
