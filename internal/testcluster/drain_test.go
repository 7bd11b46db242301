package testcluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// left waits until a worker has left because it was drained, and ends what is left of it.
func left(t *testing.T, w *node.Node) {
	t.Helper()
	ctx := withTimeout(t)
	select {
	case <-w.Done():
	case <-ctx.Done():
		t.Fatal("the drained worker does not leave")
	}
	if err := w.Err(); err != nil || !w.Drained() {
		t.Fatalf("the worker has left (%v), drained %v", err, w.Drained())
	}
	must(t, w.Stop(ctx))
}

// What a node has is on others when it has left: what a job made, and what a client has put. The pins and the owners are the same.
func TestDrainedNodeLeavesItsObjectsToOthers(t *testing.T) {
	tb := newTable(t, 2_000, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 8_000})
	first := c.Worker(0)
	made := wait(t, submit(t, c, tb.intoObjects(&enginev1.ObjectSink{Name: "wine"})), engine.JobSucceeded)
	b := newObjectBench(t, c)
	session, _ := b.openSession()
	var put []engine.ObjectID
	for _, rows := range []int{fewRows, manyRows} {
		put = append(put, b.put(b.dial(first, session), rows, rows))
	}
	second := c.AddWorker()
	drained, err := c.Client().DrainNode(t.Context(), first.ID(), 0, "test")
	must(t, err)
	if drained.GetState() != enginev1.NodeState_NODE_STATE_DRAINING && drained.GetState() != enginev1.NodeState_NODE_STATE_DEAD {
		t.Errorf("the node is %s", drained.GetState())
	}
	left(t, first)
	for i, rows := range []int{fewRows, manyRows} {
		if got := b.summary(put[i], first, second); got != "IN_MEMORY primary@1" {
			t.Errorf("object %d: %s", i, got)
		}
		b.reads(b.dial(second, ""), put[i], rows, rows)
	}
	var total int64
	for i, output := range made.Outputs {
		ref, err := engine.ParseObjectRef(output)
		must(t, err)
		if got := b.summary(ref.ID, first, second); got != "IN_MEMORY primary@1" {
			t.Errorf("output %d: %s", i, got)
		}
		if owners := b.describe(ref.ID).GetOwners(); len(owners) == 0 {
			t.Errorf("output %d has no owner", i)
		}
		opened, err := c.Client().Get(t.Context(), ref)
		must(t, err)
		total += opened.Rows()
		opened.Release()
	}
	if total != 2_000 {
		t.Errorf("%d rows", total)
	}
	// A job reads them, too.
	again := tb.spec
	again.Source = objectSource(made.Outputs...)
	if result := wait(t, submit(t, c, again), engine.JobSucceeded); result.RowsRead != 2_000 {
		t.Errorf("%d rows read", result.RowsRead)
	}
}

// The last node has nobody to leave its objects to. It says so, and leaves all the same; so does one that is drained by its own end.
func TestLastNodeLeavesWithItsObjects(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	b := newObjectBench(t, c)
	session, _ := b.openSession()
	id := b.put(b.dial(c.Worker(0), session), 1, manyRows)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	wantKind(t, c.Worker(0).Drain(ctx), engine.KindUnavailable, "1 of its objects", "no other node has an object store")
	must(t, c.Worker(0).Stop(ctx))
	wantKind(t, b.awaitEnd(id), engine.KindUnavailable)
}

// A node that ends by itself, as on SIGTERM, moves its objects as one that is drained does.
func TestNodeThatEndsLeavesItsObjectsToOthers(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, c)
	session, _ := b.openSession()
	id := b.put(b.dial(c.Worker(1), session), 7, manyRows)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must(t, c.Worker(1).Drain(ctx))
	must(t, c.Worker(1).Stop(ctx))
	if got := b.summary(id, c.Worker(0)); got != "IN_MEMORY primary@0" {
		t.Errorf("object: %s", got)
	}
	b.reads(b.dial(c.Worker(0), ""), id, 7, manyRows)
}
