package jobplan_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// directory describes the objects that it knows by the names that a job file may use.
type directory map[string]object.Description

func (d directory) Describe(_ context.Context, names []object.Name) ([]object.Description, error) {
	var all []object.Description
	for _, name := range names {
		found, ok := d[name.String()]
		if !ok {
			return nil, engine.Errorf(engine.KindNotFound, "find object", name.String(), "no such object")
		}
		all = append(all, found)
	}
	return all, nil
}

func described(number byte, batches int64, fields ...arrow.Field) object.Description {
	return object.Description{ID: engine.ObjectID{number}, Schema: arrow.NewSchema(fields, nil), Rows: 10 * batches, Batches: batches, SizeBytes: 1000 * batches}
}

var (
	number  = arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64}
	text    = arrow.Field{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true}
	known   = directory{"a": described(1, 4, number, text), "b": described(2, 1, text, number), "a/again": described(1, 4, number, text), "c": described(3, 1, number)}
	objects = `{"source": {"object": {"refs": %s}}, "steps": [{"rename": {"columns": {"x": "y"}}}], "sink": {"object": %s}}`
)

func TestBuildOfObjects(t *testing.T) {
	spec := parse(t, "", fmt.Sprintf(objects, `["a", "b"]`, `{}`))
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{TargetSplitBytes: 2500, Objects: known})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, task := range plan.GetTasks() {
		if want := engine.OutputObjectID(engine.TaskID{Job: testJob, Index: i}, 0).String(); task.GetPart() != want {
			t.Errorf("task %d makes %s, expected %s", i, task.GetPart(), want)
		}
		for _, s := range task.GetSplits() {
			found = append(found, fmt.Sprintf("%d:%d+%d", s.GetInput(), s.GetFirstRowGroup(), s.GetRowGroups()))
		}
	}
	if got, want := strings.Join(found, " "), "0:0+3 0:3+1 1:0+1"; got != want {
		t.Errorf("splits %s, expected %s", got, want)
	}
	if got, want := fmt.Sprint(jobplan.InputObjects(plan)), fmt.Sprint([]engine.ObjectID{{1}, {2}}); got != want {
		t.Errorf("inputs %s, expected %s", got, want)
	}
	if input := plan.GetInputs()[0]; input.GetPath() != (engine.ObjectID{1}).String() || input.GetSizeBytes() != 4000 {
		t.Errorf("input %v", input)
	}
	if err := jobplan.CheckInputs(t.Context(), nil, nil, plan); err != nil {
		t.Errorf("objects do not change: %v", err)
	}
	program, err := jobplan.Compile(t.Context(), spec, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := arrow.NewSchema([]arrow.Field{{Name: "y", Type: number.Type}, text}, nil)
	if folders, err := jobplan.Folders(spec, testJob, nil); len(folders) != 0 || err != nil || !program.OutputSchema.Equal(want) {
		t.Errorf("folders %v, %v, output %v", folders, err, program.OutputSchema)
	}
	split := jobplan.SplitOf(plan.GetInputs()[0], plan.GetTasks()[1].GetSplits()[0])
	if split.File.Path != (engine.ObjectID{1}).String() || split.FirstRowGroup != 3 || split.RowGroups != 1 {
		t.Errorf("split %+v", split)
	}
}

func TestBuildOfObjectsRefuses(t *testing.T) {
	for _, test := range []struct {
		refs string
		kind engine.Kind
		want string
	}{
		{`["a", "nobody"]`, engine.KindNotFound, "source.object.refs: find object: nobody: no such object"},
		{`["a", "a/again"]`, engine.KindInvalidArgument, `source.object.refs[1]: "a/again" names object 01000000000000000000000000000000, which "a" names already`},
		{`["a", "c"]`, engine.KindData, `object 03000000000000000000000000000000: its columns are not those of object 01000000000000000000000000000000: column "t" (string) is missing`},
		{`["c", "a"]`, engine.KindData, `column "t" (string) is extra`},
	} {
		_, err := jobplan.Build(t.Context(), testJob, parse(t, "", fmt.Sprintf(objects, test.refs, `{}`)), jobplan.Options{Objects: known})
		wantError(t, err, test.kind, "", test.want)
	}
	_, err := jobplan.Build(t.Context(), testJob, parse(t, "", fmt.Sprintf(objects, `["a"]`, `{}`)), jobplan.Options{})
	wantError(t, err, engine.KindInvalidArgument, "", "source.object.refs: this head has no object store")
	missing := parse(t, "", strings.Replace(fmt.Sprintf(objects, `["c"]`, `{}`), `"x": "y"`, `"z": "y"`, 1))
	_, err = jobplan.Build(t.Context(), testJob, missing, jobplan.Options{Objects: known})
	wantError(t, err, engine.KindData, "", `column "z" is missing from the table of object 03000000000000000000000000000000`)
}

// Files become objects, and objects files.
func TestBuildMixesFilesAndObjects(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.csv"), "x,t\n1,a\n2,b\n")
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in"]}}, "sink": {"object": {"checkpoint": "DIR/kept"}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil || len(plan.GetTasks()) != 1 || plan.GetTasks()[0].GetPart() != engine.OutputObjectID(engine.TaskID{Job: testJob}, 0).String() {
		t.Fatalf("%v, %v", plan, err)
	}
	if plan.GetOutput().GetFolder() != "" || len(plan.GetInputs()[0].GetObjectId()) > 0 {
		t.Errorf("%v", plan)
	}
	spec = parse(t, dir, `{"source": {"object": {"refs": ["a"]}}, "sink": {"parquet": {"path": "DIR/out", "mode": "overwrite", "files": 2}}}`)
	plan, err = jobplan.Build(t.Context(), testJob, spec, jobplan.Options{Objects: known})
	if err != nil || len(plan.GetTasks()) != 2 || plan.GetOutput().GetFolder() != filepath.Join(dir, "out") {
		t.Fatalf("%v, %v", plan, err)
	}
}

func TestObjectOutput(t *testing.T) {
	id := engine.OutputObjectID(engine.TaskID{Job: testJob, Index: 3}, 0)
	for _, test := range []struct {
		sink, pin, checkpoint string
		ttl                   time.Duration
	}{
		{`{}`, "", "", 0},
		{`{"name": "wine/scores", "ttl": "1h30m"}`, "wine/scores/3", "", 90 * time.Minute},
		{`{"checkpoint": "/kept/"}`, "", "/kept/" + id.String() + ".arrows", 0},
		{`{"checkpoint": "/what?/kept"}`, "", "/what?/kept/" + id.String() + ".arrows", 0},
		{`{"checkpoint": "file:///kept"}`, "", "/kept/" + id.String() + ".arrows", 0},
		{`{"checkpoint": "s3://b/p/"}`, "", "s3://b/p/" + id.String() + ".arrows", 0},
		{`{"checkpoint": "s3://b/p?region=eu"}`, "", "s3://b/p/" + id.String() + ".arrows?region=eu", 0},
	} {
		output, err := jobplan.NewObjectOutput(&enginev1.JobSpec{Sink: parse(t, "", fmt.Sprintf(objects, `["a"]`, test.sink)).GetSink()}, testJob)
		if err != nil {
			t.Fatal(err)
		}
		if output.ID(3) != id || output.Pin(3) != test.pin || output.CheckpointURI(3) != test.checkpoint || output.TTL != test.ttl {
			t.Errorf("%s: %+v: pin %q, checkpoint %q", test.sink, output, output.Pin(3), output.CheckpointURI(3))
		}
		if owner := output.Owner(); owner.Kind != engine.OwnerJob || owner.ID != string(testJob) || !owner.Expires.IsZero() {
			t.Errorf("owner %v", owner)
		}
	}
}
