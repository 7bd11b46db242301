package jobs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// lose makes an object lost.
func (d *directory) lose(id engine.ObjectID) {
	d.change(func() { d.lost[id] = true })
}

// ask asks the manager for a lost object, as the directory does, and returns what it says in the end.
func (r *rig) ask(d *directory, id engine.ObjectID, meanwhile func()) string {
	r.t.Helper()
	d.mu.Lock()
	before := len(d.remade) // What it is made of ends before.
	d.mu.Unlock()
	lost, err := d.Lost(r.t.Context(), []engine.ObjectID{id})
	if err != nil || len(lost) != 1 {
		r.t.Fatalf("%v, %v", lost, err)
	}
	r.manager.Remake(lost[0])
	if meanwhile != nil {
		meanwhile()
	}
	timeout := time.After(2 * time.Minute)
	for {
		d.mu.Lock()
		remade, changed := d.remade, d.changed
		d.mu.Unlock()
		for _, end := range remade[before:] {
			if rest, found := strings.CutPrefix(end, id.String()+" "); found {
				return rest
			}
		}
		select {
		case <-changed:
		case <-timeout:
			r.t.Fatalf("nothing became of object %s", id)
		}
	}
}

// objectJob runs a job that makes one object, over a file or over another object.
func (r *rig) objectJob(d *directory, sink *enginev1.ObjectSink, refs ...string) engine.JobID {
	r.t.Helper()
	spec := r.objectSpec(sink, refs...)
	if len(refs) == 0 {
		spec = r.objectSpec(sink)
	}
	id := r.submitSpec(spec)
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	r.work(d, 1, "")
	r.await(id, "succeeded", func(job *state.Job) bool { return job.State() == engine.JobSucceeded })
	return id
}

func TestRemake(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	first := r.objectJob(d, &enginev1.ObjectSink{})
	second := r.objectJob(d, &enginev1.ObjectSink{}, outputOf(first, 0).String())
	x, y := outputOf(first, 0), outputOf(second, 0)

	d.lose(y)
	if end := r.ask(d, y, func() { r.work(d, 1, "") }); end != "<nil>" {
		t.Errorf("%s", end)
	}
	// What it is made of comes first.
	d.lose(x)
	d.lose(y)
	if end := r.ask(d, y, func() { r.work(d, 2, "") }); end != "<nil>" {
		t.Errorf("%s", end)
	}
	if len(d.lost) != 0 {
		t.Errorf("lost are %v", d.lost)
	}
	for _, id := range []engine.JobID{first, second} {
		if job := r.job(string(id)); job.State() != engine.JobSucceeded || job.Resumptions != 0 {
			t.Errorf("job %s: %s", id, job.State())
		}
		if _, there := r.manager.Dispatcher().Job(id); there {
			t.Errorf("job %s still has tasks", id)
		}
	}
	if text, _ := d.owned(x); strings.Contains(text, string(second)) {
		t.Errorf("an input that was read again is still held: %s", text)
	}

	// A failure names the chain.
	d.lose(x)
	d.lose(y)
	failure := engine.Errorf(engine.KindData, "read csv", "in.csv:2", "a number is none")
	end := r.ask(d, y, func() { r.workOrFail(d, 1, "", failure) })
	for _, want := range []string{y.String(), string(second), x.String(), string(first), "in.csv:2: a number is none"} {
		if !strings.Contains(end, want) {
			t.Errorf("%q does not name %s", end, want)
		}
	}
	// It may be asked for again. What is lost again each time is given up.
	d.change(func() { d.losing = true })
	if end := r.ask(d, x, func() { r.work(d, 1, ""); r.work(d, 1, ""); r.work(d, 1, "") }); !strings.Contains(end, "lost again each of 3 times") {
		t.Errorf("%s", end)
	}
	d.change(func() { d.losing = false })

	input := filepath.Join(r.data, "in.csv")
	if err := os.WriteFile(input, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if end := r.ask(d, x, nil); !strings.Contains(end, "inputs have changed") || !strings.Contains(end, input) || !strings.Contains(end, string(first)) {
		t.Errorf("%s", end)
	}
	// What no job has made, nobody makes again.
	put := engine.ObjectID{77}
	d.change(func() {
		d.owners[put], d.lost[put] = []engine.ObjectOwner{{Kind: engine.OwnerJob, ID: string(second)}}, true
	})
	if end := r.ask(d, put, nil); !strings.Contains(end, "which is gone") {
		t.Errorf("%s", end)
	}
}

func TestRemakeWithinTheJobsTimeout(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	spec := r.objectSpec(&enginev1.ObjectSink{})
	spec.Timeout = "2s"
	id := r.submitSpec(spec)
	r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
	r.work(d, 1, "")
	r.await(id, "succeeded", func(job *state.Job) bool { return job.State() == engine.JobSucceeded })
	d.lose(outputOf(id, 0))
	if end := r.ask(d, outputOf(id, 0), nil); !strings.Contains(end, "it took longer than the job's timeout of 2s") {
		t.Errorf("%s", end)
	}
	if _, there := r.manager.Dispatcher().Job(id); there {
		t.Error("the job still has tasks")
	}
}

// What is made again after its time is not kept.
func TestRemakeAfterTheEndOfAnOutput(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	id := r.objectJob(d, &enginev1.ObjectSink{Ttl: "1ms"})
	d.lose(outputOf(id, 0))
	over := func() {
		<-time.After(time.Until(r.job(string(id)).EndTime.Add(2 * time.Millisecond)))
		r.work(d, 1, "")
	}
	if end := r.ask(d, outputOf(id, 0), over); end != "<nil>" {
		t.Errorf("%s", end)
	}
	if text, _ := d.owned(outputOf(id, 0)); text != "" {
		t.Errorf("owned by %s", text)
	}
}

// A chain that is too long is given up, with the reason of its end and not with that of each of its parts.
func TestRemakeOfALongChain(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	const links = 103
	last := r.objectJob(d, &enginev1.ObjectSink{})
	chain := []engine.ObjectID{outputOf(last, 0)}
	for range links - 1 {
		last = r.objectJob(d, &enginev1.ObjectSink{}, chain[len(chain)-1].String())
		chain = append(chain, outputOf(last, 0))
	}
	for _, id := range chain {
		d.lose(id)
	}
	end := r.ask(d, chain[links-1], nil)
	if !strings.Contains(end, "so are the inputs of 100 tasks") || !strings.Contains(end, string(last)) || len(end) > 8_000 {
		t.Errorf("%d bytes: %s", len(end), end)
	}
	// One that is short enough is not.
	if end := r.ask(d, chain[100], func() { r.work(d, 101, "") }); end != "<nil>" {
		t.Errorf("%s", end)
	}
}

// A job whose output is lost before it has ended makes it again. If it cannot, it has not succeeded, and cannot be resumed as if it had that
// output.
func TestOutputsThatAreLostBeforeTheEnd(t *testing.T) {
	d := newDirectory()
	r := newRig(t, jobs.Config{Objects: d})
	lostAtOnce := func() engine.JobID {
		id := r.submitSpec(r.objectSpec(&enginev1.ObjectSink{}))
		r.await(id, "planned", func(job *state.Job) bool { return job.Plan != nil })
		d.onOwned = func(owned engine.ObjectID) { d.lost[owned] = true }
		r.work(d, 1, "")
		d.onOwned = nil
		return id
	}
	id := lostAtOnce()
	r.work(d, 1, "")
	r.await(id, "ended", ended)
	if job := r.job(string(id)); job.State() != engine.JobSucceeded {
		t.Fatalf("%s: %v", job.State(), job.Ended)
	}

	id = lostAtOnce()
	r.workOrFail(d, 1, "", engine.Errorf(engine.KindData, "read csv", "in.csv:2", "a number is none"))
	r.await(id, "ended", ended)
	job := r.job(string(id))
	if err := rpc.FromProto(job.Ended.GetError()); job.State() != engine.JobFailed || err.Kind != engine.KindData || !strings.Contains(err.Error(), "a number is none") {
		t.Fatalf("%s: %v", job.State(), err)
	}
	err := r.manager.Resume(t.Context(), id, nil)
	if engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "what it has done is gone") {
		t.Errorf("%v", err)
	}
	if end := r.ask(d, outputOf(id, 0), nil); !strings.Contains(end, "the job has FAILED") {
		t.Errorf("%s", end)
	}
	d.change(func() { delete(d.lost, outputOf(id, 0)) })
	if err := r.manager.Resume(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	r.await(id, "ended", func(job *state.Job) bool { return job.State() == engine.JobSucceeded })
	if len(d.revived) != 0 {
		t.Errorf("what was committed is revived: %v", d.revived)
	}
}

var _ jobs.Objects = (*objects.Directory)(nil)
