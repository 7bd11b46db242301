package jobs

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// objectOutput are objects, one for each task, under ids that are the same at every attempt. The job is their owner.
type objectOutput struct {
	jobplan.ObjectOutput
	objects   Objects
	ephemeral bool
	// recover is for outputs that are lost before the job has ended.
	recover recoverer
}

// recoverer makes those of some objects again that are lost.
type recoverer func(ctx context.Context, ids []engine.ObjectID) error

// places tells jobs apart by the names that they pin.
func (o objectOutput) places() []string {
	if o.Name == "" {
		return []string{"objects of job " + string(o.Job)}
	}
	return []string{"objects " + o.Name + "/*"}
}

// Check implements output.
func (o objectOutput) Check(ctx context.Context) error {
	switch {
	case o.objects == nil:
		return errNoObjects
	case o.ephemeral && o.Checkpoint == "":
		return engine.Errorf(engine.KindInvalidArgument, "", "sink.object", "the objects of an embedded cluster end with it, so nobody could read them").
			WithHint("set sink.object.checkpoint, or submit the job to a cluster")
	case o.Name == "":
		return nil
	}
	// There is one output at least, so a name that another job has pinned shows here.
	taken, err := o.objects.Describe(ctx, nil, []string{o.Pin(0)})
	if err != nil {
		return engine.WrapError("", "sink.object.name", err)
	}
	if len(taken) > 0 {
		return engine.Errorf(engine.KindConflict, "", "sink.object.name", "object %s is pinned as %q already", engine.ObjectID(taken[0].GetObjectId()), o.Pin(0)).
			WithHint("choose another name, or unpin what has it")
	}
	return nil
}

// Prepare has nothing to do: stores are there already.
func (o objectOutput) Prepare(context.Context) error { return nil }

// Abandon has nothing to do: what was not sealed went with its attempt.
func (o objectOutput) Abandon(context.Context) error { return nil }

// complete proves that every output can still be read, sets its end, and pins it. Outputs of a worker that was lost meanwhile come back from
// their checkpoints, or are made again; those of which nothing comes fail the job.
func (o objectOutput) complete(ctx context.Context, job *state.Job) error {
	if o.objects == nil {
		return errNoObjects
	}
	mine := o.Owner()
	if o.TTL > 0 {
		mine.Expires = time.Now().Add(o.TTL)
	}
	var pinned error
	for range holdTries {
		ids, err := o.hold(ctx, job, mine, o.recover)
		if err != nil {
			return engine.WrapError("complete output", string(o.Job), err)
		}
		if o.Name == "" {
			return nil
		}
		// A worker can be lost after its outputs were held, too.
		if pinned = o.pin(ctx, ids, mine.Expires); engine.KindOf(pinned) != engine.KindUnavailable {
			break
		}
	}
	return engine.WrapError("pin output", string(o.Job), pinned)
}

func (o objectOutput) pin(ctx context.Context, ids []engine.ObjectID, expires time.Time) error {
	return forEach(ctx, len(ids), func(ctx context.Context, i int) error {
		return o.objects.Hold(ctx, ids[i:i+1], engine.ObjectOwner{Kind: engine.OwnerPin, ID: o.Pin(i), Expires: expires})
	})
}

// holdTries bounds how often outputs are brought back that are lost again before they are held.
const holdTries = 3

// hold makes somebody an owner of what the job has committed, and returns the ids. What the directory has not got comes back from its
// checkpoint, or by again unless that is nil: a worker can be lost after it reported its result and before its store was heard, also while
// its outputs are being held.
func (o objectOutput) hold(ctx context.Context, job *state.Job, owner engine.ObjectOwner, again recoverer) (ids []engine.ObjectID, err error) {
	checkpoints := map[engine.ObjectID]string{}
	var unkept []engine.ObjectID // Those without a checkpoint.
	for i, committed := range job.Committed {
		if committed != nil {
			ids = append(ids, o.ID(i))
			if committed.GetCheckpoint() == "" {
				unkept = append(unkept, o.ID(i))
			}
			checkpoints[o.ID(i)] = committed.GetCheckpoint()
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	for range holdTries {
		if again != nil {
			if err := again(ctx, unkept); err != nil {
				return nil, err
			}
		}
		if err := o.bringBack(ctx, checkpoints, owner); err != nil {
			return nil, err
		}
		if err = holdAll(ctx, o.objects, ids, owner); err == nil {
			return ids, nil
		}
		if kind := engine.KindOf(err); kind != engine.KindUnavailable && kind != engine.KindNotFound {
			return nil, err
		}
	}
	return nil, err
}

// bringBack makes those objects of their checkpoints that the directory has not got, and somebody an owner of them.
func (o objectOutput) bringBack(ctx context.Context, checkpoints map[engine.ObjectID]string, owner engine.ObjectOwner) error {
	known, err := o.objects.Describe(ctx, slices.Collect(maps.Keys(checkpoints)), nil)
	if err != nil {
		return err
	}
	missing := maps.Clone(checkpoints)
	for _, info := range known {
		if info.GetState() != enginev1.ObjectState_OBJECT_STATE_LOST {
			delete(missing, engine.ObjectID(info.GetObjectId()))
		}
	}
	var uris []string
	for id, uri := range missing {
		if uri == "" {
			// The directory may know how it was lost, or have heard of it by now.
			err := o.objects.Hold(ctx, []engine.ObjectID{id}, owner)
			switch {
			case err == nil:
				continue
			case engine.KindOf(err) != engine.KindNotFound:
				return err
			}
			return engine.Errorf(engine.KindUnavailable, "hold output", id.String(), "lost with the worker that made it").
				WithHint("sink.object.checkpoint keeps outputs beyond their worker")
		}
		uris = append(uris, uri)
	}
	return restoreAll(ctx, o.objects, uris, o.Domain, owner)
}

// checkResume implements output.
func (o objectOutput) checkResume(ctx context.Context, job *state.Job) error {
	if o.objects == nil {
		return errNoObjects
	}
	// To hold again what the job holds changes nothing, and tells whether it is there.
	_, err := o.hold(ctx, job, o.Owner(), nil)
	return err
}
