package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/worker"
)

// grantor is a head that grants what the test says and hands the results over.
type grantor struct {
	enginev1.UnimplementedWorkerServiceServer
	answers chan *enginev1.SyncResponse
	results chan *enginev1.TaskResult
}

// lifetime is how long its leases last; no test takes as long.
const lifetime = time.Minute

func (g *grantor) Sync(stream grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse]) error {
	if err := stream.Send(&enginev1.SyncResponse{Welcome: &enginev1.HeadWelcome{ClusterId: "test", LeaseTime: durationpb.New(lifetime), ReportInterval: durationpb.New(time.Second)}}); err != nil {
		return err
	}
	var mu sync.Mutex
	send := func(answer *enginev1.SyncResponse) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(answer)
	}
	go func() {
		for {
			select {
			case answer := <-g.answers:
				if send(answer) != nil {
					return
				}
			case <-stream.Context().Done():
				return
			}
		}
	}()
	seen := map[string]bool{}
	for {
		report, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // The worker has ended.
		}
		answer := &enginev1.SyncResponse{AcknowledgedSequence: report.GetSequence()}
		for _, result := range report.GetResults() {
			answer.Settled = append(answer.Settled, result.GetLease())
			if key := result.GetLease().String(); !seen[key] {
				seen[key] = true
				g.results <- result
			}
		}
		if err := send(answer); err != nil {
			return nil //nolint:nilerr // The worker has ended.
		}
	}
}

// bench is a worker with a store and the head that grants it tasks.
type bench struct {
	t       *testing.T
	store   *objectstore.Store
	memory  *memory.CheckedAllocator
	head    *grantor
	fetched []engine.ObjectID
	fetch   func(engine.ObjectID) error
	jobs    map[engine.JobID]*enginev1.Plan
	epoch   uint64
}

func newBench(t *testing.T, capacity int64) *bench {
	t.Helper()
	b := &bench{
		t: t, memory: memory.NewCheckedAllocator(memory.DefaultAllocator), jobs: map[engine.JobID]*enginev1.Plan{},
		head: &grantor{answers: make(chan *enginev1.SyncResponse), results: make(chan *enginev1.TaskResult, 10)},
	}
	var err error
	b.store, err = objectstore.Open(t.Context(), objectstore.Config{
		CapacityBytes: capacity, PrefaultBytes: -1, CreateTimeout: 100 * time.Millisecond,
		Open: func(ctx context.Context, uri string) (blob.Bucket, error) {
			return open.Bucket(ctx, uri, open.Options{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterWorkerServiceServer(server, b.head)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := rpc.Dial("passthrough:///bench", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.Start(worker.Config{
		Conn: conn, Resources: engine.Resources{CPU: 2}, Models: fake.New(), Allocator: b.memory, Logger: slog.New(slog.DiscardHandler),
		Store: func(context.Context) (*objectstore.Store, error) { return b.store, nil },
		Fetch: func(_ context.Context, id engine.ObjectID) error {
			b.fetched = append(b.fetched, id)
			if b.fetch == nil {
				return engine.Errorf(engine.KindNotFound, "fetch", id.String(), "no such object")
			}
			return b.fetch(id)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		err := errors.Join(w.Stop(ctx), conn.Close(), b.store.Close(ctx))
		server.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
		b.memory.AssertSize(t, 0)
	})
	return b
}

// run grants a task of a job, whose plan is made at the first time, and returns how the attempt ended.
func (b *bench) run(id engine.JobID, spec *enginev1.JobSpec, task int, objects jobplan.Objects) *enginev1.TaskResult {
	b.t.Helper()
	plan := b.jobs[id]
	if plan == nil {
		var err error
		if plan, err = jobplan.Build(b.t.Context(), id, spec, jobplan.Options{TargetSplitBytes: 1, Objects: objects}); err != nil {
			b.t.Fatal(err)
		}
		b.jobs[id] = plan
	}
	b.epoch++
	grant := &enginev1.LeaseGrant{
		Lease: &enginev1.LeaseRef{JobId: string(id), Task: int32(task), Epoch: b.epoch}, Task: plan.GetTasks()[task], Attempt: 1,
	}
	for _, split := range grant.GetTask().GetSplits() {
		grant.Inputs = append(grant.Inputs, plan.GetInputs()[split.GetInput()])
	}
	b.head.answers <- &enginev1.SyncResponse{
		Jobs:   []*enginev1.JobAssignment{{JobId: string(id), Spec: spec, Plan: plan}},
		Grants: []*enginev1.LeaseGrant{grant},
	}
	select {
	case result := <-b.head.results:
		return result
	case <-time.After(2 * time.Minute):
		b.t.Fatal("the attempt does not end")
		return nil
	}
}

// read returns the numbers in the first column of an object of the store.
func (b *bench) read(id engine.ObjectID) (numbers []int64, batches int) {
	b.t.Helper()
	opened, err := object.FromStore(func(context.Context) (*objectstore.Store, error) { return b.store, nil }, nil)(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	defer opened.Release()
	for _, record := range opened.Records() {
		numbers = append(numbers, record.Column(0).(*array.Int64).Int64Values()...)
	}
	return numbers, len(opened.Records())
}

func jobOf(number int) engine.JobID { return engine.JobID(fmt.Sprintf("20261123-142330-%08d", number)) }

// csvJob writes rows numbered from 0 and returns a job that makes objects of them, ten rows a record batch.
func csvJob(t *testing.T, rows int, sink *enginev1.ObjectSink) (path string, spec *enginev1.JobSpec) {
	t.Helper()
	text := strings.Builder{}
	text.WriteString("n,t\n")
	for i := range rows {
		fmt.Fprintf(&text, "%d,row %d\n", i, i)
	}
	path = filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, &enginev1.JobSpec{
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{path}}}},
		Batch:  &enginev1.Batch{Rows: 10},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: sink}},
	}
}

func count(to int) []int64 {
	numbers := make([]int64, to)
	for i := range numbers {
		numbers[i] = int64(i)
	}
	return numbers
}

// stored describes an object of the bench's store to planning.
type stored struct{ b *bench }

func (s stored) Describe(ctx context.Context, names []object.Name) ([]object.Description, error) {
	var all []object.Description
	for _, name := range names {
		opened, err := object.FromStore(func(context.Context) (*objectstore.Store, error) { return s.b.store, nil }, nil)(ctx, name.Ref.ID)
		if err != nil {
			return nil, err
		}
		info, _ := s.b.store.Info(name.Ref.ID)
		all = append(all, object.Description{ID: name.Ref.ID, Schema: opened.Schema(), Rows: info.Rows, Batches: info.Batches, SizeBytes: info.SizeBytes})
		opened.Release()
	}
	return all, nil
}

func TestObjectSinkAndSource(t *testing.T) {
	b := newBench(t, 64<<20)
	_, spec := csvJob(t, 25, &enginev1.ObjectSink{})
	spec.Source.GetCsv().Columns = []*enginev1.Column{{Name: "n", Type: "int64"}}
	first := jobOf(1)
	var made []string
	var rows int64
	plan, err := jobplan.Build(t.Context(), first, spec, jobplan.Options{TargetSplitBytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	b.jobs[first] = plan
	for i := range plan.GetTasks() {
		result := b.run(first, spec, i, nil)
		if result.GetError() != nil {
			t.Fatal(rpc.FromProto(result.GetError()))
		}
		id := engine.OutputObjectID(engine.TaskID{Job: first, Index: i}, 0)
		info, ok := b.store.Info(id)
		if !ok || !info.Primary || len(info.Owners) != 1 || info.Owners[0] != jobplan.JobOwner(first) {
			t.Fatalf("task %d left %+v", i, info)
		}
		if result.GetPartSizeBytes() != info.SizeBytes || result.GetCounts().GetRowsWritten() != info.Rows || result.GetCounts().GetBytesWritten() != info.SizeBytes ||
			result.GetPublishedEpoch() != result.GetLease().GetEpoch() || result.GetCheckpoint() != "" {
			t.Errorf("task %d: %v of %+v", i, result, info)
		}
		made = append(made, id.String())
		rows += info.Rows
	}
	if len(made) < 2 || rows != 25 {
		t.Fatalf("%d objects with %d rows", len(made), rows)
	}

	second := jobOf(2)
	spec = &enginev1.JobSpec{
		Source: &enginev1.Source{Kind: &enginev1.Source_Object{Object: &enginev1.ObjectSource{Refs: made}}},
		Batch:  &enginev1.Batch{Rows: 4},
		Steps:  []*enginev1.Step{{Kind: &enginev1.Step_Select{Select: &enginev1.SelectStep{Columns: []string{"n"}}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}},
	}
	plan, err = jobplan.Build(t.Context(), second, spec, jobplan.Options{Objects: stored{b}})
	if err != nil {
		t.Fatal(err)
	}
	b.jobs[second] = plan
	var numbers []int64
	var bytesRead, size int64
	for i := range plan.GetTasks() {
		result := b.run(second, spec, i, nil)
		if result.GetError() != nil {
			t.Fatal(rpc.FromProto(result.GetError()))
		}
		found, _ := b.read(engine.OutputObjectID(engine.TaskID{Job: second, Index: i}, 0))
		numbers = append(numbers, found...)
		bytesRead += result.GetCounts().GetBytesRead()
	}
	for _, input := range plan.GetInputs() {
		size += input.GetSizeBytes()
	}
	if fmt.Sprint(numbers) != fmt.Sprint(count(25)) {
		t.Errorf("%v", numbers)
	}
	if bytesRead != size {
		t.Errorf("%d bytes read of %d", bytesRead, size)
	}
	for _, info := range b.store.List() {
		if info.Pins != 0 {
			t.Errorf("%s is still pinned", info.ID)
		}
	}
}

// An attempt that finds the object of an earlier one takes it as it is, without a look at the input.
func TestObjectIsAdopted(t *testing.T) {
	b := newBench(t, 64<<20)
	path, spec := csvJob(t, 25, &enginev1.ObjectSink{})
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.jobs[jobOf(1)] = plan
	first := b.run(jobOf(1), spec, 0, nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := b.run(jobOf(1), spec, 0, nil)
	if again.GetError() != nil || again.GetPartSizeBytes() != first.GetPartSizeBytes() || again.GetCounts().GetRowsWritten() != 25 || again.GetCounts().GetBatches() != 3 {
		t.Errorf("%v\nafter %v", again, first)
	}
}

// What an earlier attempt's filter left out is known of its object, in memory and as a checkpoint, so that the counts add up.
func TestFilteredObjectIsAdopted(t *testing.T) {
	path, spec := csvJob(t, 25, &enginev1.ObjectSink{Checkpoint: filepath.Join(t.TempDir(), "kept")})
	spec.Steps = []*enginev1.Step{{Kind: &enginev1.Step_Filter{Filter: &enginev1.FilterStep{Where: "n >= 12"}}}}
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 64<<20)
	b.jobs[jobOf(1)] = plan
	first := b.run(jobOf(1), spec, 0, nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := b.run(jobOf(1), spec, 0, nil)
	other := newBench(t, 64<<20)
	other.jobs[jobOf(1)] = plan
	for name, result := range map[string]*enginev1.TaskResult{"made": first, "found": again, "restored": other.run(jobOf(1), spec, 0, nil)} {
		c := result.GetCounts()
		if result.GetError() != nil || c.GetRowsRead() != 25 || c.GetRowsWritten() != 13 || c.GetRowsFiltered() != 12 {
			t.Errorf("%s: %v", name, result)
		}
	}
	if numbers, _ := other.read(engine.OutputObjectID(engine.TaskID{Job: jobOf(1)}, 0)); fmt.Sprint(numbers) != fmt.Sprint(count(25)[12:]) {
		t.Errorf("%v", numbers)
	}
}

// A worker that takes over from one that is lost finds the checkpoint, and makes the object of it.
func TestCheckpointIsAdopted(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "kept")
	path, spec := csvJob(t, 25, &enginev1.ObjectSink{Checkpoint: folder})
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lost := newBench(t, 64<<20)
	lost.jobs[jobOf(1)] = plan
	first := lost.run(jobOf(1), spec, 0, nil)
	id := engine.OutputObjectID(engine.TaskID{Job: jobOf(1)}, 0)
	uri := filepath.Join(folder, id.String()+".arrows")
	if first.GetError() != nil || !strings.HasSuffix(first.GetCheckpoint(), uri) {
		t.Fatalf("%v", first)
	}
	if _, err := os.Stat(uri); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 64<<20)
	b.jobs[jobOf(1)] = plan
	again := b.run(jobOf(1), spec, 0, nil)
	if again.GetError() != nil || again.GetPartSizeBytes() != first.GetPartSizeBytes() || again.GetCheckpoint() != first.GetCheckpoint() {
		t.Fatalf("%v\nafter %v", again, first)
	}
	if numbers, _ := b.read(id); fmt.Sprint(numbers) != fmt.Sprint(count(25)) {
		t.Errorf("%v", numbers)
	}
	if info, _ := b.store.Info(id); len(info.Owners) != 1 || info.Owners[0] != jobplan.JobOwner(jobOf(1)) {
		t.Errorf("%+v", info)
	}
}

// A checkpoint that is damaged is made again.
func TestDamagedCheckpointIsReplaced(t *testing.T) {
	folder := t.TempDir()
	_, spec := csvJob(t, 25, &enginev1.ObjectSink{Checkpoint: folder})
	id := engine.OutputObjectID(engine.TaskID{Job: jobOf(1)}, 0)
	file := filepath.Join(folder, id.String()+".arrows")
	if err := os.WriteFile(file, []byte("half of a checkp"), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 64<<20)
	b.jobs[jobOf(1)] = plan
	if result := b.run(jobOf(1), spec, 0, nil); result.GetError() != nil || result.GetPublishedEpoch() != result.GetLease().GetEpoch() {
		t.Fatalf("%v", result)
	}
	other := newBench(t, 64<<20)
	if info, err := other.store.Restore(t.Context(), file, "", nil); err != nil || info.Rows != 25 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Where two attempts at once write checkpoints with other bits, the first one counts for both.
func TestFirstCheckpointCounts(t *testing.T) {
	folder := t.TempDir()
	id := engine.OutputObjectID(engine.TaskID{Job: jobOf(1)}, 0)
	// Another attempt's output: the same columns, one row.
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "t", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	builder.Field(0).(*array.Int64Builder).Append(42)
	builder.Field(1).(*array.StringBuilder).Append("first")
	record := builder.NewRecord()
	defer record.Release()
	encoding, err := table.Encode(schema, record)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	other := newBench(t, 64<<20)
	pending, err := other.store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: encoding.SizeBytes(), Owner: jobplan.JobOwner(jobOf(1))})
	if err != nil {
		t.Fatal(err)
	}
	encoding.CopyTo(pending.Bytes())
	if _, err := pending.Seal(objectstore.Description{Rows: 1, Batches: 1}); err != nil {
		t.Fatal(err)
	}

	b := newBench(t, 64<<20)
	opened := 0
	store, err := objectstore.Open(t.Context(), objectstore.Config{CapacityBytes: 64 << 20, PrefaultBytes: -1,
		Open: func(ctx context.Context, uri string) (blob.Bucket, error) {
			if opened++; opened == 2 { // The first time, the attempt looks for a checkpoint; the second, it writes its own.
				if _, err := other.store.Checkpoint(ctx, id, folder); err != nil {
					t.Error(err)
				}
			}
			return open.Bucket(ctx, uri, open.Options{})
		}})
	if err != nil {
		t.Fatal(err)
	}
	old := b.store
	b.store = store
	t.Cleanup(func() {
		if err := old.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	_, spec := csvJob(t, 25, &enginev1.ObjectSink{Checkpoint: folder})
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.jobs[jobOf(1)] = plan
	result := b.run(jobOf(1), spec, 0, nil)
	if result.GetError() != nil || result.GetCounts().GetRowsWritten() != 1 {
		t.Fatalf("%v", result)
	}
	if numbers, _ := b.read(id); fmt.Sprint(numbers) != "[42]" {
		t.Errorf("%v", numbers)
	}
}

func TestObjectInputIsFetched(t *testing.T) {
	b := newBench(t, 64<<20)
	_, spec := csvJob(t, 25, &enginev1.ObjectSink{})
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newBench(t, 64<<20)
	elsewhere.jobs[jobOf(1)] = plan
	if result := elsewhere.run(jobOf(1), spec, 0, nil); result.GetError() != nil {
		t.Fatal(rpc.FromProto(result.GetError()))
	}
	id := engine.OutputObjectID(engine.TaskID{Job: jobOf(1)}, 0)
	b.fetch = func(id engine.ObjectID) error {
		handle, err := elsewhere.store.Get(t.Context(), id)
		if err != nil {
			return err
		}
		defer handle.Release()
		pending, err := b.store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: int64(len(handle.Bytes()))})
		if err != nil {
			return err
		}
		copy(pending.Bytes(), handle.Bytes())
		_, err = pending.Seal(handle.Info().Description)
		return err
	}
	spec = &enginev1.JobSpec{
		Source: &enginev1.Source{Kind: &enginev1.Source_Object{Object: &enginev1.ObjectSource{Refs: []string{id.String()}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Object{Object: &enginev1.ObjectSink{}}},
	}
	if plan, err = jobplan.Build(t.Context(), jobOf(2), spec, jobplan.Options{Objects: stored{elsewhere}}); err != nil {
		t.Fatal(err)
	}
	b.jobs[jobOf(2)] = plan
	if result := b.run(jobOf(2), spec, 0, nil); result.GetError() != nil {
		t.Fatal(rpc.FromProto(result.GetError()))
	}
	if numbers, _ := b.read(engine.OutputObjectID(engine.TaskID{Job: jobOf(2)}, 0)); fmt.Sprint(numbers) != fmt.Sprint(count(25)) || len(b.fetched) != 1 {
		t.Errorf("%v, fetched %v", numbers, b.fetched)
	}

	// One that is nowhere is named.
	b.store.Delete(id)
	b.fetch = nil
	result := b.run(jobOf(2), spec, 0, nil)
	if result.GetError() != nil {
		t.Fatalf("the object of the first attempt was not adopted: %v", result.GetError())
	}
	b.jobs[jobOf(3)] = plan
	result = b.run(jobOf(3), spec, 0, nil)
	if err := rpc.FromProto(result.GetError()); err == nil || err.Kind != engine.KindNotFound || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("%v", err)
	}
}

func TestObjectThatDoesNotFit(t *testing.T) {
	b := newBench(t, 256<<10)
	_, spec := csvJob(t, 20_000, &enginev1.ObjectSink{})
	plan, err := jobplan.Build(t.Context(), jobOf(1), spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.jobs[jobOf(1)] = plan
	result := b.run(jobOf(1), spec, 0, nil)
	if err := rpc.FromProto(result.GetError()); err == nil || err.Kind != engine.KindInvalidArgument || !strings.Contains(err.Error(), "256KiB") {
		t.Errorf("%v", err)
	}

	// What would fit, if it were not for others, waits and then says who has the room.
	pending, err := b.store.Create(t.Context(), objectstore.Creation{ID: engine.NewObjectID(), SizeBytes: 150 << 10, Owner: engine.ObjectOwner{Kind: engine.OwnerPin, ID: "hoard"}})
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Abort()
	_, spec = csvJob(t, 2_500, &enginev1.ObjectSink{})
	if plan, err = jobplan.Build(t.Context(), jobOf(2), spec, jobplan.Options{}); err != nil {
		t.Fatal(err)
	}
	b.jobs[jobOf(2)] = plan
	result = b.run(jobOf(2), spec, 0, nil)
	if err := rpc.FromProto(result.GetError()); err == nil || err.Kind != engine.KindExhausted || !strings.Contains(err.Error(), "pin/hoard") {
		t.Errorf("%v", err)
	}
	if n := len(b.store.List()); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}
