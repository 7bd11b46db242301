package jobplan

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/object"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Objects tells planning of the objects of the cluster.
type Objects interface {
	// Describe returns a description for each name, in their order. Of a checkpoint it makes an object. The error names the object:
	// engine.KindInvalidArgument for one of another cluster, engine.KindNotFound for one that nobody knows, engine.KindUnavailable
	// for one that is lost.
	Describe(ctx context.Context, names []object.Name) ([]object.Description, error)
}

// maxRefs bounds the objects that one job reads.
const maxRefs = 100_000

// validateRefs refuses texts that name no object.
func validateRefs(field string, refs []string) error {
	switch n := len(refs); {
	case n == 0:
		return invalid(field, "required: objects")
	case n > maxRefs:
		return invalid(field, "%d objects, at most %d are allowed", n, maxRefs)
	}
	seen := make(map[string]int, len(refs))
	for i, ref := range refs {
		if _, err := object.ParseName(ref); err != nil {
			return engine.WrapError("", indexed(field, i), err)
		}
		if j, ok := seen[ref]; ok {
			return invalid(indexed(field, i), "%q stands in %s already", ref, indexed(field, j))
		}
		seen[ref] = i
	}
	return nil
}

// findInputs returns the source of a job that passed Validate, and its files or objects.
func findInputs(ctx context.Context, spec *enginev1.JobSpec, options Options) (dataset.Source, []dataset.File, error) {
	if kind := spec.GetSource().GetPostgres(); kind != nil {
		source, err := newPostgresSource(kind, options.Secrets)
		if err != nil {
			return nil, nil, err
		}
		return source, []dataset.File{source.File()}, nil
	}
	if spec.GetSource().GetObject() == nil {
		source, err := newSource(spec, nil, nil, nil)
		if err != nil {
			return nil, nil, err
		}
		field, paths := sourcePaths(spec)
		files, err := listInputs(ctx, options.inputPlaces(spec), field, paths)
		return source, files, err
	}
	described, err := describe(ctx, spec.GetSource().GetObject().GetRefs(), options.Objects)
	if err != nil {
		return nil, nil, err
	}
	return object.NewSource(described, nil), object.Files(described), nil
}

func describe(ctx context.Context, refs []string, objects Objects) ([]object.Description, error) {
	const field = "source.object.refs"
	if objects == nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "", field, "this head has no object store")
	}
	names := make([]object.Name, len(refs))
	for i, ref := range refs {
		var err error
		if names[i], err = object.ParseName(ref); err != nil {
			return nil, engine.WrapError("", indexed(field, i), err)
		}
	}
	described, err := objects.Describe(ctx, names)
	if err != nil {
		return nil, engine.WrapError("", field, err)
	}
	if len(described) != len(names) {
		return nil, engine.Errorf(engine.KindInternal, "plan job", field, "%d objects were described, %d asked for", len(described), len(names))
	}
	from := map[engine.ObjectID]int{}
	for i, d := range described {
		if j, ok := from[d.ID]; ok {
			return nil, invalid(indexed(field, i), "%q names object %s, which %q names already", refs[i], d.ID, refs[j]).
				WithHint("its rows would be read twice")
		}
		from[d.ID] = i
	}
	return described, nil
}

// tableName is how messages name the table of an input.
func tableName(spec *enginev1.JobSpec, path string) string {
	if spec.GetSource().GetObject() != nil {
		return "object " + path
	}
	return path
}

// objectOf returns the bytes of the id of an input that is an object; nil for a file.
func objectOf(spec *enginev1.JobSpec, path string) []byte {
	if spec.GetSource().GetObject() == nil {
		return nil
	}
	id, err := engine.ParseObjectID(path)
	if err != nil {
		panic(fmt.Sprintf("an object's path is its id: %v", err)) // object.Files made it.
	}
	return id[:]
}

// InputObjects returns the objects that a plan's job reads.
func InputObjects(plan *enginev1.Plan) []engine.ObjectID {
	var ids []engine.ObjectID
	for _, input := range plan.GetInputs() {
		if len(input.GetObjectId()) == len(engine.ObjectID{}) {
			ids = append(ids, engine.ObjectID(input.GetObjectId()))
		}
	}
	return ids
}

// ObjectOutput is where a job's rows go whose sink keeps objects. It is a value.
type ObjectOutput struct {
	// Job is the job.
	Job engine.JobID
	// Name is what the outputs' pins begin with; empty means that there are none.
	Name string
	// Checkpoint is the folder where every output is kept durably, or empty.
	Checkpoint string
	// TTL is how long the outputs live after the job has succeeded; zero means no end.
	TTL time.Duration
	// Domain is the security domain of the outputs: the job's queue.
	Domain string
}

var _ output = ObjectOutput{}

// maxPinPrefix leaves place for a slash and the number of an output.
const maxPinPrefix = 190

// NewObjectOutput returns the output of a job whose sink is object. Errors are of kind engine.KindInvalidArgument and name the field.
func NewObjectOutput(spec *enginev1.JobSpec, job engine.JobID) (ObjectOutput, error) {
	const field = "sink.object"
	sink := spec.GetSink().GetObject()
	o := ObjectOutput{Job: job, Name: sink.GetName(), Checkpoint: sink.GetCheckpoint(), Domain: cmp.Or(spec.GetQueue(), "default")}
	if o.Name != "" && (len(o.Name) > maxPinPrefix || engine.CheckSubmissionID(o.Name) != nil) {
		return o, invalid(field+".name", "%q: use 1 to %d letters, digits, and ._:/@+-", o.Name, maxPinPrefix)
	}
	switch scheme, _ := remoteScheme(o.Checkpoint); {
	case o.Checkpoint == "", scheme == "s3://":
	case scheme != "" && scheme != "file://":
		return o, invalid(field+".checkpoint", "%q: %s is not a place for checkpoints", o.Checkpoint, scheme).
			WithHint("write a path or s3://bucket/prefix")
	default:
		path, err := localPath(field+".checkpoint", o.Checkpoint)
		if err != nil {
			return o, err
		}
		if path == string(filepath.Separator) {
			return o, invalid(field+".checkpoint", "the root folder cannot be an output folder")
		}
		o.Checkpoint = path
	}
	if text := sink.GetTtl(); text != "" {
		ttl, err := ParseDuration(text)
		switch {
		case err != nil:
			return o, invalid(field+".ttl", "%q is not a duration: write numbers with ms, s, m, h, or d, such as 90s or 1h30m", text)
		case ttl <= 0:
			return o, invalid(field+".ttl", "%q must be longer than zero", text)
		}
		o.TTL = ttl
	}
	return o, nil
}

// ID is the id of a task's output.
func (o ObjectOutput) ID(task int) engine.ObjectID {
	return engine.OutputObjectID(engine.TaskID{Job: o.Job, Index: task}, 0)
}

// Owner is who keeps the outputs alive until the job is forgotten.
func (o ObjectOutput) Owner() engine.ObjectOwner { return JobOwner(o.Job) }

// JobOwner is a job as the owner of objects.
func JobOwner(job engine.JobID) engine.ObjectOwner {
	return engine.ObjectOwner{Kind: engine.OwnerJob, ID: string(job)}
}

// Pin is the name under which a task's output is pinned, or empty.
func (o ObjectOutput) Pin(task int) string {
	if o.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", o.Name, task)
}

// CheckpointURI is where a task's output is kept durably, or empty.
func (o ObjectOutput) CheckpointURI(task int) string {
	if o.Checkpoint == "" {
		return ""
	}
	return CheckpointURI(o.Checkpoint, o.ID(task))
}

// CheckpointURI is where the checkpoint of an object in a folder, or s3://bucket/prefix, is kept.
func CheckpointURI(folder string, id engine.ObjectID) string {
	settings := ""
	if i := strings.IndexByte(folder, '?'); i >= 0 && !filepath.IsAbs(folder) {
		folder, settings = folder[:i], folder[i:] // An address in S3 may say how to reach it.
	}
	return strings.TrimRight(folder, "/") + "/" + id.String() + ".arrows" + settings
}

func (o ObjectOutput) part(task int) string { return o.ID(task).String() }
func (o ObjectOutput) count() int           { return 0 }
func (o ObjectOutput) taskBytes() int64     { return 0 }
func (o ObjectOutput) check(_ context.Context, schema *arrow.Schema) error {
	return object.CheckSchema(schema)
}

func (o ObjectOutput) plan(_ []dataset.File, into *enginev1.Plan) error {
	into.Output = &enginev1.OutputPlan{}
	return nil
}

func (o ObjectOutput) guardModels(models) error { return nil }
