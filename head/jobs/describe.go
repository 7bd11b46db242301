package jobs

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// describer describes objects to the planning of a job.
type describer struct {
	objects Objects
	job     *state.Job
}

// planningObjects returns what a job's plan is made with; nil if there is no directory.
func (m *Manager) planningObjects(job *state.Job) jobplan.Objects {
	if m.config.Objects == nil {
		return nil
	}
	return describer{objects: m.config.Objects, job: job}
}

// Describe implements jobplan.Objects. It asks the stores for every object's schema.
func (d describer) Describe(ctx context.Context, names []object.Name) ([]object.Description, error) {
	infos, err := d.find(ctx, names)
	if err != nil {
		return nil, err
	}
	described := make([]object.Description, len(infos))
	return described, forEach(ctx, len(infos), func(ctx context.Context, i int) error {
		info := infos[i]
		id := engine.ObjectID(info.GetObjectId())
		encoded, err := d.objects.Schema(ctx, id)
		if err != nil {
			return err
		}
		schema, err := jobplan.DecodeSchema(encoded)
		if err != nil {
			return engine.WrapError("describe object", id.String(), err)
		}
		described[i] = object.Description{ID: id, Schema: schema, Rows: info.GetRows(), Batches: info.GetBatches(), SizeBytes: info.GetSizeBytes()}
		return nil
	})
}

// find returns what the directory knows of each name, in order.
func (d describer) find(ctx context.Context, names []object.Name) ([]*enginev1.ObjectInfo, error) {
	var ids []engine.ObjectID
	var pins []string
	for _, name := range names {
		if cluster := name.Ref.Cluster; cluster != "" && cluster != d.objects.ClusterID() {
			return nil, engine.Errorf(engine.KindInvalidArgument, "find object", name.Ref.ID.String(), "it belongs to cluster %s, this is %s", cluster, d.objects.ClusterID()).
				WithHint("restore it here from a checkpoint first")
		}
		switch {
		case name.Pin != "":
			pins = append(pins, name.Pin)
		case name.Checkpoint == "":
			ids = append(ids, name.Ref.ID)
		}
	}
	known, err := d.objects.Describe(ctx, ids, pins)
	if err != nil {
		return nil, err
	}
	byID, byPin := map[engine.ObjectID]*enginev1.ObjectInfo{}, map[string]*enginev1.ObjectInfo{}
	for _, info := range known {
		byID[engine.ObjectID(info.GetObjectId())] = info
		for _, owner := range info.GetOwners() {
			if owner.GetKind() == string(engine.OwnerPin) {
				byPin[owner.GetId()] = info
			}
		}
	}
	found := make([]*enginev1.ObjectInfo, len(names))
	for i, name := range names {
		if name.Checkpoint != "" {
			// The job owns it from the beginning, else it would be gone before the job begins.
			if found[i], err = d.objects.Restore(ctx, name.Checkpoint, d.job.Queue(), jobplan.JobOwner(d.job.ID)); err != nil {
				return nil, err
			}
			if !d.job.MayRead(found[i].GetDomain()) {
				return nil, engine.Errorf(engine.KindPermission, "find object", name.Checkpoint, "it is of a queue that who submitted the job, %s, was not granted", d.job.SubmittedBy)
			}
			continue
		}
		what, why := name.Ref.ID.String(), "no such object"
		if found[i] = byID[name.Ref.ID]; name.Pin != "" {
			found[i], what, why = byPin[name.Pin], name.Pin, "no object is pinned under this name"
		}
		if found[i] != nil && !d.job.MayRead(found[i].GetDomain()) {
			return nil, engine.Errorf(engine.KindPermission, "find object", what, "it is of a queue that who submitted the job, %s, was not granted", d.job.SubmittedBy)
		}
		if found[i] == nil {
			return nil, engine.Errorf(engine.KindNotFound, "find object", what, "%s", why).
				WithHint("`engine list objects` shows those that there are")
		}
	}
	return found, nil
}
