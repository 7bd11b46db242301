package testcluster_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	objecttable "github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// objectBench is a client that speaks the protocols by itself.
type objectBench struct {
	t       *testing.T
	cluster *testcluster.Cluster
	ctx     context.Context
	head    enginev1.ObjectServiceClient
}

func newObjectBench(t *testing.T, cluster *testcluster.Cluster) *objectBench {
	t.Helper()
	conn, err := rpc.Dial(cluster.Address())
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(func() {
		cancel()
		must(t, conn.Close())
	})
	return &objectBench{t: t, cluster: cluster, ctx: ctx, head: enginev1.NewObjectServiceClient(conn)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openSession keeps a session until end is called.
func (b *objectBench) openSession() (id string, end func()) {
	b.t.Helper()
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	id = hex.EncodeToString(raw)
	ctx, cancel := context.WithCancel(b.ctx)
	stream, err := b.head.OpenSession(ctx)
	must(b.t, err)
	must(b.t, stream.Send(&enginev1.OpenSessionRequest{SessionId: id, Client: "test"}))
	answer, err := stream.Recv()
	must(b.t, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(answer.GetLeaseTime().AsDuration() / 5)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				// A head that is stopped ends the stream; the next one hears of the session from the stores.
				_ = stream.Send(&enginev1.OpenSessionRequest{})
				_, _ = stream.Recv()
			case <-stop:
				_ = stream.CloseSend()
				for {
					if _, err := stream.Recv(); err != nil {
						return
					}
				}
			}
		}
	}()
	ended := false
	end = func() {
		if !ended {
			ended = true
			close(stop)
			<-stopped
			cancel()
		}
	}
	b.t.Cleanup(end)
	return id, end
}

// dial connects to a worker's socket.
func (b *objectBench) dial(n *node.Node, session string) *local.Client {
	b.t.Helper()
	return b.dialIn("", n, session)
}

// dialIn connects to a worker's socket as a client of a security domain.
func (b *objectBench) dialIn(domain string, n *node.Node, session string) *local.Client {
	b.t.Helper()
	c, err := local.Dial(b.ctx, n.Socket(), local.Options{Client: "test", Session: session, Domain: domain})
	must(b.t, err)
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// column is a table of one column that begins with first.
func column(first, rows int) arrow.Record {
	builder := array.NewInt64Builder(memory.DefaultAllocator)
	defer builder.Release()
	for i := range rows {
		builder.Append(int64(first + i))
	}
	values := builder.NewArray()
	defer values.Release()
	return array.NewRecord(arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil), []arrow.Array{values}, int64(rows))
}

func (b *objectBench) put(c *local.Client, first, rows int) engine.ObjectID {
	b.t.Helper()
	record := column(first, rows)
	defer record.Release()
	encoding, err := objecttable.Encode(record.Schema(), record)
	must(b.t, err)
	defer encoding.Release()
	id := engine.NewObjectID()
	_, err = c.Put(b.ctx, id, encoding)
	must(b.t, err)
	return id
}

// reads sees that the object is what put put, through a worker's socket.
func (b *objectBench) reads(c *local.Client, id engine.ObjectID, first, rows int) {
	b.t.Helper()
	got, _, err := c.Get(b.ctx, id, local.GetOptions{Fetch: true})
	must(b.t, err)
	defer got.Release()
	want := column(first, rows)
	defer want.Release()
	if len(got.Records()) != 1 || !array.RecordEqual(got.Records()[0], want) {
		b.t.Fatalf("object %s is not what was put", id)
	}
}

func (b *objectBench) describe(id engine.ObjectID) *enginev1.ObjectInfo {
	b.t.Helper()
	response, err := b.head.DescribeObjects(b.ctx, &enginev1.DescribeObjectsRequest{ObjectIds: [][]byte{id[:]}})
	must(b.t, err)
	if len(response.GetObjects()) == 0 {
		return nil
	}
	return response.GetObjects()[0]
}

// refresh makes the head hear of all that has happened: it asks the stores before it says that it does not know an object.
func (b *objectBench) refresh() {
	b.t.Helper()
	if info := b.describe(engine.NewObjectID()); info != nil {
		b.t.Fatalf("an object of a new id: %v", info)
	}
}

// summary is "STATE primary@0 cache@1", workers by their places.
func (b *objectBench) summary(id engine.ObjectID, workers ...*node.Node) string {
	info := b.describe(id)
	if info == nil {
		return "none"
	}
	words := []string{strings.TrimPrefix(info.GetState().String(), "OBJECT_STATE_")}
	for i, n := range workers {
		for _, h := range info.GetHolders() {
			if h.GetStore().GetNodeId() == string(n.ID()) {
				words = append(words, fmt.Sprintf("%s@%d", map[bool]string{true: "primary", false: "cache"}[h.GetPrimary()], i))
			}
		}
	}
	return strings.Join(words, " ")
}

// awaitEnd returns the error with which waiting for an object ends that will not come any more.
func (b *objectBench) awaitEnd(id engine.ObjectID) error {
	b.t.Helper()
	never := engine.NewObjectID()
	_, err := b.head.WaitObjects(b.ctx, &enginev1.WaitObjectsRequest{ObjectIds: [][]byte{id[:], never[:]}, Timeout: durationpb.New(30 * time.Second)})
	if err == nil {
		b.t.Fatalf("object %s is still there: %v", id, b.describe(id))
	}
	return err
}

func wantKind(t *testing.T, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("%v, expected an error of kind %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not say %q", err, word)
		}
	}
}

// The rows of a table that travels inside of messages, and of one that lives in an arena.
const fewRows, manyRows = 10, 200_000

func TestObjectsAreReadOnAnotherNode(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, cluster)
	first, second := cluster.Worker(0), cluster.Worker(1)
	session, end := b.openSession()
	here, there := b.dial(first, session), b.dial(second, "")
	var ids []engine.ObjectID
	for _, rows := range []int{fewRows, manyRows} {
		id := b.put(here, rows, rows)
		ids = append(ids, id)
		// The head has not been told yet, and finds out.
		if got := b.summary(id, first, second); got != "IN_MEMORY primary@0" {
			t.Fatalf("after the put: %s", got)
		}
		b.reads(there, id, rows, rows)
		b.refresh()
		if got := b.summary(id, first, second); got != "IN_MEMORY primary@0 cache@1" {
			t.Fatalf("after it was read elsewhere: %s", got)
		}
	}
	_, _, err := there.Get(b.ctx, engine.NewObjectID(), local.GetOptions{Fetch: true})
	wantKind(t, err, engine.KindNotFound)
	usage, err := b.head.GetObjectStoreUsage(b.ctx, &enginev1.GetObjectStoreUsageRequest{})
	must(t, err)
	if len(usage.GetStores()) != 2 || usage.GetStores()[0].GetUsage().GetCapacityBytes() != 64<<20 {
		t.Errorf("usage %v", usage)
	}
	stores, err := b.head.ListStores(b.ctx, &enginev1.ListStoresRequest{})
	must(t, err)
	if len(stores.GetStores()) != 2 || stores.GetStores()[0].GetFlight() == "" || stores.GetStores()[0].GetSocket() == "" {
		t.Errorf("stores %v", stores)
	}
	end()
	for _, id := range ids {
		wantKind(t, b.awaitEnd(id), engine.KindNotFound, id.String(), "nobody owned it")
	}
}

// Whatever way a copy came to another node, it is for those who may read the object, and for nobody else.
func TestDomainsHoldOnEveryNode(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, cluster)
	first, second := cluster.Worker(0), cluster.Worker(1)
	session, _ := b.openSession()
	here := b.dialIn("red", first, session)
	red, others := b.dialIn("red", second, session), b.dialIn(objectstore.DefaultDomain, second, session)
	owner := b.dial(second, session) // It is of the store's user, and has bound itself to no domain.
	pulled, restored := b.put(here, 1, manyRows), b.put(here, 2, manyRows)
	_, err := b.head.CheckpointObject(b.ctx, &enginev1.CheckpointObjectRequest{ObjectId: restored[:], Folder: t.TempDir()})
	must(t, err)
	b.reads(red, pulled, 1, manyRows)
	b.refresh()
	cluster.KillWorker(0)
	b.reads(red, restored, 2, manyRows)
	for _, id := range []engine.ObjectID{pulled, restored} {
		if domain := b.describe(id).GetDomain(); domain != "red" {
			t.Errorf("object %s is in domain %q", id, domain)
		}
		_, _, err := others.Get(b.ctx, id, local.GetOptions{Fetch: true})
		wantKind(t, err, engine.KindPermission, "red", objectstore.DefaultDomain)
		table, _, err := owner.Get(b.ctx, id, local.GetOptions{Fetch: true})
		must(t, err)
		table.Release()
	}
}

// A store takes nothing over the network for a session that nobody keeps.
func TestPutsOverTheNetworkNeedASession(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 1})
	b := newObjectBench(t, cluster)
	open, end := b.openSession()
	far, err := transfer.Dial(b.ctx, cluster.Worker(0).Flight())
	must(t, err)
	t.Cleanup(func() { must(t, far.Close()) })
	record := column(1, manyRows)
	defer record.Release()
	encoding, err := objecttable.Encode(record.Schema(), record)
	must(t, err)
	defer encoding.Release()
	put := func(session string) error {
		_, err := far.Put(b.ctx, engine.NewObjectID(), session, "", encoding)
		return err
	}
	must(t, put(open))
	never := strings.Repeat("a", 32)
	wantKind(t, put(never), engine.KindFenced, never)
	end()
	wantKind(t, put(open), engine.KindFenced, open)
}

func TestObjectsOfAKilledNode(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, cluster)
	first, second := cluster.Worker(0), cluster.Worker(1)
	session, _ := b.openSession()
	here, there := b.dial(first, session), b.dial(second, session)
	copied, lost, checkpointed := b.put(here, 1, manyRows), b.put(here, 2, manyRows), b.put(here, 3, manyRows)
	b.reads(there, copied, 1, manyRows)
	folder := t.TempDir()
	saved, err := b.head.CheckpointObject(b.ctx, &enginev1.CheckpointObjectRequest{ObjectId: checkpointed[:], Folder: folder})
	must(t, err)
	if saved.GetUri() == "" || saved.GetObject().GetCheckpoint() != saved.GetUri() {
		t.Errorf("checkpoint %v", saved)
	}
	b.refresh()
	cluster.KillWorker(0)
	wantKind(t, b.awaitEnd(lost), engine.KindUnavailable, lost.String(), string(first.ID()), "lost")
	_, _, err = there.Get(b.ctx, lost, local.GetOptions{Fetch: true})
	wantKind(t, err, engine.KindUnavailable, "lost")
	if got := b.summary(lost); got != "LOST" {
		t.Errorf("the lost one: %s", got)
	}
	b.reads(there, copied, 1, manyRows)
	// Its owners, which the order to promote it carries, can be added to.
	must2(b.head.PinObject(b.ctx, &enginev1.PinObjectRequest{ObjectId: copied[:], Name: "kept"}))(t)
	b.refresh()
	if got := b.summary(copied, second); got != "IN_MEMORY primary@0" {
		t.Errorf("the copied one: %s", got)
	}
	if got := b.summary(checkpointed); got != "CHECKPOINTED" {
		t.Errorf("the checkpointed one: %s", got)
	}
	b.reads(there, checkpointed, 3, manyRows)
	b.refresh()
	if got := b.summary(checkpointed, second); got != "IN_MEMORY primary@0" {
		t.Errorf("the checkpointed one: %s", got)
	}
	if info := b.describe(checkpointed); len(info.GetOwners()) != 1 || info.GetOwners()[0].GetId() != session {
		t.Errorf("the checkpointed one is owned by %v", info.GetOwners())
	}
}

func must2[T any](_ T, err error) func(testing.TB) {
	return func(t testing.TB) {
		t.Helper()
		must(t, err)
	}
}

func TestSilentSessionGivesUpItsObjects(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 1})
	b := newObjectBench(t, cluster)
	session := strings.Repeat("0", 31) + "1"
	stream, err := b.head.OpenSession(b.ctx)
	must(t, err)
	must(t, stream.Send(&enginev1.OpenSessionRequest{SessionId: session}))
	must2(stream.Recv())(t)
	here := b.dial(cluster.Worker(0), session)
	mine, pinned := b.put(here, 1, manyRows), b.put(here, 2, fewRows)
	must2(b.head.PinObject(b.ctx, &enginev1.PinObjectRequest{ObjectId: pinned[:], Name: "kept"}))(t)
	wantKind(t, b.awaitEnd(mine), engine.KindNotFound, "nobody owned it")
	info := b.describe(pinned)
	if len(info.GetOwners()) != 1 || info.GetOwners()[0].GetKind() != "pin" {
		t.Errorf("the pinned one is owned by %v", info.GetOwners())
	}
	must2(b.head.UnpinObject(b.ctx, &enginev1.UnpinObjectRequest{Name: "kept"}))(t)
	wantKind(t, b.awaitEnd(pinned), engine.KindNotFound, "nobody owned it")
	_, err = b.head.UnpinObject(b.ctx, &enginev1.UnpinObjectRequest{Name: "kept"})
	wantKind(t, err, engine.KindNotFound, "kept")
}

func TestNewHeadKnowsTheObjects(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, cluster)
	session, _ := b.openSession()
	id := b.put(b.dial(cluster.Worker(0), session), 1, manyRows)
	must2(b.head.PinObject(b.ctx, &enginev1.PinObjectRequest{ObjectId: id[:], Name: "prices/today"}))(t)
	cluster.StopHead()
	cluster.StartHead()
	b = newObjectBench(t, cluster)
	// A question that comes before the stores waits for them.
	response, err := b.head.DescribeObjects(b.ctx, &enginev1.DescribeObjectsRequest{Names: []string{"prices/today"}})
	must(t, err)
	if len(response.GetObjects()) != 1 || engine.ObjectID(response.GetObjects()[0].GetObjectId()) != id {
		t.Fatalf("the new head knows %v", response)
	}
	b.reads(b.dial(cluster.Worker(1), ""), id, 1, manyRows)
}

func TestCheckpointIsRestoredInAnotherCluster(t *testing.T) {
	folder := t.TempDir()
	var id engine.ObjectID
	var uri string
	t.Run("first", func(t *testing.T) {
		cluster := testcluster.Start(t, testcluster.Options{Workers: 1})
		b := newObjectBench(t, cluster)
		session, _ := b.openSession()
		id = b.put(b.dial(cluster.Worker(0), session), 7, manyRows)
		saved, err := b.head.CheckpointObject(b.ctx, &enginev1.CheckpointObjectRequest{ObjectId: id[:], Folder: folder})
		must(t, err)
		uri = saved.GetUri()
	})
	t.Run("second", func(t *testing.T) {
		cluster := testcluster.Start(t, testcluster.Options{Workers: 1})
		b := newObjectBench(t, cluster)
		session, _ := b.openSession()
		restored, err := b.head.RestoreObject(b.ctx, &enginev1.RestoreObjectRequest{Uri: uri, SessionId: session})
		must(t, err)
		if got := engine.ObjectID(restored.GetObject().GetObjectId()); got != id {
			t.Errorf("restored %s, expected %s", got, id)
		}
		b.reads(b.dial(cluster.Worker(0), ""), id, 7, manyRows)
		_, err = b.head.RestoreObject(b.ctx, &enginev1.RestoreObjectRequest{Uri: uri + "x", SessionId: session})
		if kind := engine.KindOf(err); kind != engine.KindNotFound && kind != engine.KindInvalidArgument {
			t.Errorf("a file that does not exist: %v", err)
		}
	})
}

func TestSmallObjectsThroughTheHead(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	b := newObjectBench(t, cluster)
	session, _ := b.openSession()
	record := column(5, fewRows)
	defer record.Release()
	encoding, err := objecttable.Encode(record.Schema(), record)
	must(t, err)
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	id := engine.NewObjectID()
	put, err := b.head.PutObject(b.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data, SessionId: session})
	must(t, err)
	if info := put.GetObject(); info.GetRows() != fewRows || info.GetBatches() != 1 || info.GetSizeBytes() != int64(len(data)) {
		t.Errorf("put %v", info)
	}
	got, err := b.head.GetObject(b.ctx, &enginev1.GetObjectRequest{ObjectId: id[:]})
	must(t, err)
	if string(got.GetData()) != string(data) {
		t.Error("other bytes came back")
	}
	_, err = b.head.PutObject(b.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data, SessionId: session})
	wantKind(t, err, engine.KindConflict, id.String())
	other := engine.NewObjectID()
	_, err = b.head.PutObject(b.ctx, &enginev1.PutObjectRequest{ObjectId: other[:], Data: data[:len(data)/2], SessionId: session})
	wantKind(t, err, engine.KindCorrupt, other.String())
	must2(b.head.DeleteObjects(b.ctx, &enginev1.DeleteObjectsRequest{ObjectIds: [][]byte{id[:]}}))(t)
	_, err = b.head.GetObject(b.ctx, &enginev1.GetObjectRequest{ObjectId: id[:]})
	wantKind(t, err, engine.KindNotFound, "deleted")
}
