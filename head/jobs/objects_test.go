package jobs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// directory knows objects of one column and their owners.
type directory struct {
	mu      sync.Mutex
	owners  map[engine.ObjectID][]engine.ObjectOwner
	lost    map[engine.ObjectID]bool
	ended   []engine.ObjectOwner
	changed chan struct{}
	// late are left out by the next description alone, as what a store tells of right after it.
	late map[engine.ObjectID]bool
	// lostAfterDescribe is an object whose store is lost right after the next description of it.
	lostAfterDescribe engine.ObjectID
	// onOwned is called when a task has made an output.
	onOwned func(engine.ObjectID)
	// restored are the checkpoints that objects were made of.
	restored []string
	// losing says that what is lost stays so when it is made again: it is lost again at once.
	losing bool
	// remade are the ends of what was made again.
	remade []string
	// revived are the ids that may be used again.
	revived []engine.ObjectID
}

func newDirectory(ids ...engine.ObjectID) *directory {
	d := &directory{owners: map[engine.ObjectID][]engine.ObjectOwner{}, lost: map[engine.ObjectID]bool{}, changed: make(chan struct{})}
	for _, id := range ids {
		d.owners[id] = nil
	}
	return d
}

func (d *directory) change(act func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	act()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *directory) ClusterID() string { return "c" }

func (d *directory) Describe(_ context.Context, ids []engine.ObjectID, names []string) ([]*enginev1.ObjectInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []*enginev1.ObjectInfo
	for id, owners := range d.owners {
		pinned := func(o engine.ObjectOwner) bool { return o.Kind == engine.OwnerPin && slices.Contains(names, o.ID) }
		if slices.Contains(ids, id) && d.late[id] {
			delete(d.late, id)
			continue
		}
		if slices.Contains(ids, id) || slices.ContainsFunc(owners, pinned) {
			info := &enginev1.ObjectInfo{ObjectId: id[:], SizeBytes: 1000, Rows: 10, Batches: 2, Owners: rpc.OwnersToProto(owners), State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY}
			if d.lost[id] {
				info.State = enginev1.ObjectState_OBJECT_STATE_LOST
			}
			found = append(found, info)
			if id == d.lostAfterDescribe {
				d.lost[id], d.lostAfterDescribe = true, engine.ObjectID{}
			}
		}
	}
	return found, nil
}

func (d *directory) Schema(context.Context, engine.ObjectID) ([]byte, error) {
	return jobplan.EncodeSchema(arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}}, nil)), nil
}

func (d *directory) Restore(_ context.Context, uri, _ string, owner engine.ObjectOwner) (*enginev1.ObjectInfo, error) {
	id, err := engine.ParseObjectID(strings.TrimSuffix(filepath.Base(uri), ".arrows"))
	if err != nil || strings.HasPrefix(uri, "/missing") {
		return nil, engine.Errorf(engine.KindNotFound, "restore object", uri, "no such key")
	}
	d.change(func() {
		delete(d.lost, id)
		d.owners[id] = []engine.ObjectOwner{owner}
		d.restored = append(d.restored, uri)
	})
	return &enginev1.ObjectInfo{ObjectId: id[:], SizeBytes: 1000, Rows: 10, Batches: 2, Owners: rpc.OwnersToProto([]engine.ObjectOwner{owner})}, nil
}

func (d *directory) Hold(_ context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) (err error) {
	d.change(func() {
		for _, id := range ids {
			switch _, known := d.owners[id]; {
			case d.lost[id]:
				err = engine.Errorf(engine.KindUnavailable, "hold object", id.String(), "lost: its only copy was on node n, which is gone")
				return
			case !known:
				err = engine.Errorf(engine.KindNotFound, "hold object", id.String(), "no such object")
				return
			}
			d.owners[id] = append(slices.DeleteFunc(d.owners[id], func(o engine.ObjectOwner) bool { return o.String() == owner.String() }), owner)
		}
	})
	return err
}

func (d *directory) Release(_ context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	d.change(func() {
		for _, id := range ids {
			d.owners[id] = slices.DeleteFunc(d.owners[id], func(o engine.ObjectOwner) bool { return o.String() == owner.String() })
		}
	})
	return nil
}

func (d *directory) Revive(ids []engine.ObjectID) {
	d.change(func() { d.revived = append(d.revived, ids...) })
}

func (d *directory) Wait(_ context.Context, ids []engine.ObjectID, _ int) ([]engine.ObjectID, error) {
	return ids, nil
}

func (d *directory) Lost(_ context.Context, ids []engine.ObjectID) (lost []objects.Asked, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if !d.lost[id] {
			continue
		}
		asked := objects.Asked{ID: id, Lost: engine.Errorf(engine.KindUnavailable, "find object", id.String(), "lost: its only copy was on node n, which is gone")}
		for _, owner := range d.owners[id] {
			if owner.Kind == engine.OwnerJob {
				asked.Jobs = append(asked.Jobs, engine.JobID(owner.ID))
			}
		}
		lost = append(lost, asked)
	}
	return lost, nil
}

func (d *directory) Remade(id engine.ObjectID, err error) {
	d.change(func() { d.remade = append(d.remade, fmt.Sprint(id, err)) })
}

func (d *directory) Locate([]engine.ObjectID) []objects.Location { return nil }

func (d *directory) EndOwner(owner engine.ObjectOwner) {
	d.change(func() { d.ended = append(d.ended, owner) })
}

// owned returns the owners of an object as text, and the end of the first.
func (d *directory) owned(id engine.ObjectID) (text string, expires time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, owner := range d.owners[id] {
		if i == 0 {
			expires = owner.Expires
		}
		text += owner.String() + " "
	}
	return strings.TrimSpace(text), expires
}

// await waits until the directory is as wanted.
func (d *directory) await(t *testing.T, what string, wanted func() bool) {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		d.mu.Lock()
		changed, ok := d.changed, wanted()
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not %s", what)
		}
	}
}

// objectSpec is a job over objects, or over the file in.csv if there are none.
func (r *rig) objectSpec(sink *enginev1.ObjectSink, refs ...string) *enginev1.JobSpec {
	spec := r.spec("in.csv", "out")
	if len(refs) > 0 {
		spec.Source = &enginev1.Source{Kind: &enginev1.Source_Object{Object: &enginev1.ObjectSource{Refs: refs}}}
	}
	if sink != nil {
		spec.Sink = &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: sink}}
	}
	return spec
}

// work lets a worker finish as many tasks as are wanted, and leave: a task more that it is granted is tried again. Each output becomes known
// to the directory, and has a checkpoint in a folder, if one is given.
func (r *rig) work(d *directory, tasks int, folder string) {
	r.t.Helper()
	r.workOrFail(d, tasks, folder, nil)
}

// workOrFail is work that fails with an error, unless that is nil.
func (r *rig) workOrFail(d *directory, tasks int, folder string, failure error) {
	r.t.Helper()
	dispatcher := r.manager.Dispatcher()
	report := &enginev1.SyncRequest{Sequence: 1, Hello: &enginev1.WorkerHello{
		ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: "n-" + strings.ToLower(r.t.Name()), Total: rpc.ResourcesToProto(engine.Resources{CPU: 1}),
	}}
	node, session, answers, err := dispatcher.Connect(report)
	if err != nil {
		r.t.Fatal(err)
	}
	defer dispatcher.Disconnect(node, session)
	if err := dispatcher.Report(node, session, report); err != nil {
		r.t.Fatal(err)
	}
	timeout := time.After(2 * time.Minute)
	worked, settled := 0, 0
	for sequence := uint64(2); settled < tasks; sequence++ {
		select {
		case <-answers:
		case <-timeout:
			r.t.Fatalf("%d of %d tasks are done", settled, tasks)
		}
		answer := dispatcher.Answer(node, session)
		settled += len(answer.GetSettled())
		if len(answer.GetGrants()) == 0 {
			continue
		}
		next := &enginev1.SyncRequest{Sequence: sequence, AcknowledgedSequence: answer.GetSequence()}
		for _, grant := range answer.GetGrants()[:min(len(answer.GetGrants()), tasks-worked)] {
			worked++
			if failure != nil {
				next.Results = append(next.Results, &enginev1.TaskResult{Lease: grant.GetLease(), Error: rpc.ToProto(failure)})
				continue
			}
			if id, err := engine.ParseObjectID(grant.GetTask().GetPart()); err == nil {
				owner := engine.ObjectOwner{Kind: engine.OwnerJob, ID: grant.GetLease().GetJobId()}
				d.change(func() {
					if !d.losing {
						delete(d.lost, id)
					}
					d.owners[id] = append(d.owners[id], owner)
					if d.onOwned != nil {
						d.onOwned(id)
					}
				})
			}
			result := &enginev1.TaskResult{Lease: grant.GetLease(), Counts: &enginev1.TaskCounts{RowsWritten: 1}, PartSizeBytes: 100}
			if folder != "" {
				result.Checkpoint = folder + "/" + grant.GetTask().GetPart() + ".arrows"
			}
			next.Results = append(next.Results, result)
		}
		if err := dispatcher.Report(node, session, next); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) submitSpec(spec *enginev1.JobSpec) engine.JobID {
	r.t.Helper()
	id, _, err := r.manager.Submit(r.t.Context(), jobs.Submission{Spec: spec, GrantedQueues: allQueues})
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func outputOf(id engine.JobID, task int) engine.ObjectID {
	return engine.OutputObjectID(engine.TaskID{Job: id, Index: task}, 0)
}

func TestOutputsAreOwnedPinnedAndEnd(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d, TargetSplitBytes: 1})
	if err := os.WriteFile(filepath.Join(r.data, "in.csv"), []byte("a\n1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{Name: "nightly", Ttl: "1h"}))
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	tasks := len(r.job(string(id)).Plan.GetTasks())
	r.work(d, tasks, "/kept")
	r.await(id, "ended", ended)
	job := r.job(string(id))
	if job.State() != engine.JobSucceeded || tasks < 2 {
		t.Fatalf("%s with %d tasks: %v", job.State(), tasks, job.Ended)
	}
	for i := range tasks {
		text, expires := d.owned(outputOf(id, i))
		if want := fmt.Sprintf("job/%s pin/nightly/%d", id, i); text != want {
			t.Errorf("output %d is owned by %q, expected %q", i, text, want)
		}
		if left := time.Until(expires); left < 50*time.Minute || left > time.Hour {
			t.Errorf("output %d ends in %s", i, left)
		}
		if job.Committed[i].GetCheckpoint() != "/kept/"+outputOf(id, i).String()+".arrows" {
			t.Errorf("the checkpoint of output %d is not recorded", i)
		}
	}

	// The name is taken now.
	_, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.objectSpec(&enginev1.ObjectSink{Name: "nightly"})})
	if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), `is pinned as "nightly/0" already`) {
		t.Errorf("%v", err)
	}
	if !r.manager.KnowsOwner(jobplan.JobOwner(id)) || r.manager.KnowsOwner(jobplan.JobOwner("20260101-000000-00000000")) {
		t.Error("the manager does not know its jobs as owners, or others")
	}
}

func TestTwoJobsOfOneName(t *testing.T) {
	r := newRig(t, jobs.Config{Objects: newDirectory()})
	first := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{Name: "nightly"}))
	_, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.objectSpec(&enginev1.ObjectSink{Name: "nightly"})})
	if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), string(first)) {
		t.Errorf("%v", err)
	}
	r.submitSpec(r.objectSpec(&enginev1.ObjectSink{}))
	r.submitSpec(r.objectSpec(&enginev1.ObjectSink{}))
}

func TestInputsAreHeldWhileAJobRuns(t *testing.T) {
	input := engine.ObjectID{7}
	d := newDirectory(input)
	r := newRig(t, jobs.Config{Objects: d})
	id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{}, input.String()+"@c"))
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	if text, _ := d.owned(input); text != "job/"+string(id) {
		t.Errorf("the input of a job that runs is owned by %q", text)
	}
	r.work(d, 1, "")
	r.await(id, "ended", ended)
	if job := r.job(string(id)); job.State() != engine.JobSucceeded {
		t.Fatalf("%v", job.Ended)
	}
	d.await(t, "freed", func() bool { return len(d.owners[input]) == 0 })
	if text, _ := d.owned(outputOf(id, 0)); text != "job/"+string(id) {
		t.Errorf("the output is owned by %q", text)
	}
}

func TestBadRefs(t *testing.T) {
	known := engine.ObjectID{7}
	for _, test := range []struct {
		name, ref, want string
		kind            engine.Kind
	}{
		{"another cluster's", known.String() + "@other", "it belongs to cluster other, this is c", engine.KindInvalidArgument},
		{"unknown", engine.ObjectID{9}.String(), engine.ObjectID{9}.String() + ": no such object", engine.KindNotFound},
		{"unknown pin", "nobody/0", "nobody/0: no object is pinned under this name", engine.KindNotFound},
		{"lost", engine.ObjectID{8}.String(), "lost: its only copy was on node n", engine.KindUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDirectory(known, engine.ObjectID{8})
			d.lost[engine.ObjectID{8}] = true
			r := newRig(t, jobs.Config{Objects: d})
			id := r.submitSpec(r.objectSpec(nil, test.ref))
			r.await(id, "ended", ended)
			job := r.job(string(id))
			if err := rpc.FromProto(job.Ended.GetError()); job.State() != engine.JobFailed || err.Kind != test.kind || !strings.Contains(err.Error(), test.want) || job.Plan != nil {
				t.Errorf("%s: %v", job.State(), err)
			}
		})
	}
}

func TestObjectsWithoutAStore(t *testing.T) {
	r := newRig(t, jobs.Config{})
	if _, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.objectSpec(&enginev1.ObjectSink{})}); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "no object store") {
		t.Errorf("%v", err)
	}
	id := r.submitSpec(r.objectSpec(nil, "a"))
	r.await(id, "ended", ended)
	if err := rpc.FromProto(r.job(string(id)).Ended.GetError()); err.Kind != engine.KindInvalidArgument || !strings.Contains(err.Error(), "no object store") {
		t.Errorf("%v", err)
	}

	r = newRig(t, jobs.Config{Objects: newDirectory(), Ephemeral: true})
	_, _, err := r.manager.Submit(t.Context(), jobs.Submission{Spec: r.objectSpec(&enginev1.ObjectSink{})})
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "set sink.object.checkpoint") {
		t.Errorf("%v", err)
	}
	r.submitSpec(r.objectSpec(&enginev1.ObjectSink{Checkpoint: t.TempDir()}))
}

// An output of a lost worker comes back from its checkpoint, which the log knows, also if the directory never heard of the object.
func TestLostOutputComesBackFromItsCheckpoint(t *testing.T) {
	for name, lose := range map[string]func(*directory, engine.ObjectID){
		"lost":                  func(d *directory, id engine.ObjectID) { d.lost[id] = true },
		"never heard":           func(d *directory, id engine.ObjectID) { delete(d.owners, id) },
		"lost while it is held": func(d *directory, id engine.ObjectID) { d.lostAfterDescribe = id },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory()
			r := newRig(t, jobs.Config{Objects: d, Planners: 1})
			id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{Ttl: "1h"}))
			r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
			d.onOwned = func(owned engine.ObjectID) { lose(d, owned) }
			r.work(d, 1, "/kept")
			r.await(id, "ended", ended)
			job := r.job(string(id))
			if want := "/kept/" + outputOf(id, 0).String() + ".arrows"; job.State() != engine.JobSucceeded || len(d.restored) != 1 || d.restored[0] != want {
				t.Fatalf("%s (%v), restored %v", job.State(), job.Ended, d.restored)
			}
			if text, expires := d.owned(outputOf(id, 0)); text != "job/"+string(id) || expires.IsZero() {
				t.Errorf("owned by %q until %s", text, expires)
			}
		})
	}
}

// An output that the directory hears of while the job ends is like any other.
func TestOutputThatIsHeardOfLate(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{Name: "late", Ttl: "1h"}))
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	d.change(func() { d.late = map[engine.ObjectID]bool{outputOf(id, 0): true} })
	r.work(d, 1, "")
	r.await(id, "ended", ended)
	if job := r.job(string(id)); job.State() != engine.JobSucceeded {
		t.Fatalf("%s: %v", job.State(), job.Ended)
	}
	if text, _ := d.owned(outputOf(id, 0)); text != "job/"+string(id)+" pin/late/0" || len(d.late) != 0 {
		t.Errorf("owned by %q", text)
	}
}

func TestJobOverACheckpoint(t *testing.T) {
	input := engine.ObjectID{5}
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	id := r.submitSpec(r.objectSpec(nil, "/kept/"+input.String()+".arrows"))
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	if text, _ := d.owned(input); text != "job/"+string(id) {
		t.Errorf("the input of a job that runs is owned by %q", text)
	}
	if err := r.manager.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	d.await(t, "freed", func() bool { return len(d.owners[input]) == 0 })

	id = r.submitSpec(r.objectSpec(nil, "/missing/"+input.String()+".arrows"))
	r.await(id, "ended", ended)
	if err := rpc.FromProto(r.job(string(id)).Ended.GetError()); err == nil || err.Kind != engine.KindNotFound || !strings.Contains(err.Error(), "/missing/") {
		t.Errorf("%v", err)
	}
}

func TestForgottenJobGivesUpItsOutputs(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d, KeepEnded: 1, KeepEndedFor: time.Nanosecond})
	first := r.submit("missing.csv", "first", "")
	r.await(first, "ended", ended)
	second := r.submit("missing.csv", "second", "")
	r.await(second, "ended", ended)
	d.await(t, "given up", func() bool { return slices.Contains(d.ended, jobplan.JobOwner(first)) })
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.ended, jobplan.JobOwner(second)) {
		t.Error("a job that is remembered gave up its outputs")
	}
}

// What a job has not committed is made again when it is resumed, though somebody may have deleted what was left of it.
func TestResumedJobRevivesItsMissingOutputs(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d, TargetSplitBytes: 1})
	if err := os.WriteFile(filepath.Join(r.data, "in.csv"), []byte("a\n1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{}))
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	var missing []engine.ObjectID
	for i := range r.job(string(id)).Plan.GetTasks() {
		missing = append(missing, outputOf(id, i))
	}
	if err := r.manager.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r.await(id, "ended", ended)
	if len(missing) < 2 || len(d.revived) != 0 {
		t.Fatalf("%d outputs, and before they are made again %v are revived", len(missing), d.revived)
	}
	if err := r.manager.Resume(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	d.await(t, "revived", func() bool { return slices.Equal(d.revived, missing) })
	r.work(d, len(missing), "")
	r.await(id, "ended", func(job *state.Job) bool { return job.State() == engine.JobSucceeded })
}
