package objects_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/worker/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeHead takes the stores' streams and gives the orders that the test wants.
type fakeHead struct {
	enginev1.UnimplementedWorkerServiceServer
	enginev1.UnimplementedObjectServiceServer
	t       *testing.T
	ctx     context.Context
	streams chan *headStream
	conn    *grpc.ClientConn
	// stop ends the server.
	stop func()
	// known has what DescribeObjects says, by id: *enginev1.ObjectInfo.
	known sync.Map
}

// headStream is the head's end of a stream. The test ends it through end; what it ends with for the worker is sent there.
type headStream struct {
	grpc.BidiStreamingServer[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse]
	t        *testing.T
	messages chan *enginev1.SyncObjectsRequest
	end      chan error
	// copies are what the store has told so far.
	copies  map[engine.ObjectID]*enginev1.ObjectCopy
	results map[uint64]*enginev1.ObjectOrderResult
}

func newHead(t *testing.T) *fakeHead {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	h := &fakeHead{t: t, ctx: ctx, streams: make(chan *headStream, 10)}
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterWorkerServiceServer(server, h)
	enginev1.RegisterObjectServiceServer(server, h)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	h.conn, err = rpc.Dial(listener.Addr().String())
	check(t, err)
	h.stop = server.Stop
	t.Cleanup(func() {
		cancel()
		check(t, h.conn.Close())
		h.stop()
		check(t, <-served)
	})
	return h
}

// SyncObjects implements enginev1.WorkerServiceServer.
func (h *fakeHead) SyncObjects(stream grpc.BidiStreamingServer[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse]) error {
	s := &headStream{
		BidiStreamingServer: stream, t: h.t, messages: make(chan *enginev1.SyncObjectsRequest, 1000), end: make(chan error, 1),
		copies: map[engine.ObjectID]*enginev1.ObjectCopy{}, results: map[uint64]*enginev1.ObjectOrderResult{},
	}
	if err := stream.Send(&enginev1.SyncObjectsResponse{ClusterId: "c1"}); err != nil {
		return err
	}
	h.streams <- s
	received := make(chan error, 1)
	go func() {
		for {
			message, err := stream.Recv()
			if err != nil {
				close(s.messages)
				received <- err
				return
			}
			s.messages <- message
		}
	}()
	select {
	case err := <-s.end:
		return err
	case err := <-received:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// HoldObjects implements enginev1.ObjectServiceServer: one session is open.
func (h *fakeHead) HoldObjects(_ context.Context, request *enginev1.HoldObjectsRequest) (*enginev1.HoldObjectsResponse, error) {
	if request.GetSessionId() != openSession {
		return nil, engine.Errorf(engine.KindFenced, "check session", request.GetSessionId(), "the session is not open")
	}
	return &enginev1.HoldObjectsResponse{}, nil
}

// openSession is the session that is open at a fakeHead.
const openSession = "0123456789abcdef0123456789abcdef"

// DescribeObjects implements enginev1.ObjectServiceServer: it knows what the test says.
func (h *fakeHead) DescribeObjects(_ context.Context, request *enginev1.DescribeObjectsRequest) (*enginev1.DescribeObjectsResponse, error) {
	response := &enginev1.DescribeObjectsResponse{}
	for _, id := range request.GetObjectIds() {
		if info, ok := h.known.Load(engine.ObjectID(id)); ok {
			response.Objects = append(response.Objects, info.(*enginev1.ObjectInfo))
		}
	}
	return response, nil
}

// knows has DescribeObjects say that stores have an object.
func (h *fakeHead) knows(id engine.ObjectID, stores map[string]*objects.Objects) {
	info := &enginev1.ObjectInfo{ObjectId: id[:]}
	for node, o := range stores {
		info.Holders = append(info.Holders, &enginev1.ObjectHolder{Store: &enginev1.ObjectStoreAddress{NodeId: node, Flight: o.Flight()}})
	}
	h.known.Store(id, info)
}

// stream returns the next stream, whose store has told everything.
func (h *fakeHead) stream() *headStream {
	h.t.Helper()
	select {
	case s := <-h.streams:
		for {
			if message := s.hear(); message.GetComplete() {
				return s
			}
		}
	case <-h.ctx.Done():
		h.t.Fatal("no stream")
		return nil
	}
}

// hear takes one message in.
func (s *headStream) hear() *enginev1.SyncObjectsRequest {
	s.t.Helper()
	message, ok := <-s.messages
	if !ok {
		s.t.Fatal("the stream has ended")
	}
	for _, c := range message.GetChanged() {
		s.copies[engine.ObjectID(c.GetObjectId())] = c
	}
	for _, id := range message.GetGone() {
		delete(s.copies, engine.ObjectID(id))
	}
	for _, r := range message.GetResults() {
		s.results[r.GetNumber()] = r
	}
	return message
}

// order gives an order and returns its result. By then the store has told what it changed.
func (s *headStream) order(order *enginev1.ObjectOrder) *enginev1.ObjectOrderResult {
	s.t.Helper()
	check(s.t, s.Send(&enginev1.SyncObjectsResponse{Orders: []*enginev1.ObjectOrder{order}}))
	return s.result(order.GetNumber())
}

func (s *headStream) result(number uint64) *enginev1.ObjectOrderResult {
	s.t.Helper()
	for s.results[number] == nil {
		s.hear()
	}
	result := s.results[number]
	delete(s.results, number)
	return result
}

func (s *headStream) fine(order *enginev1.ObjectOrder) *enginev1.ObjectOrderResult {
	s.t.Helper()
	result := s.order(order)
	if result.GetError() != nil {
		s.t.Fatalf("order %d: %v", order.GetNumber(), result.GetError())
	}
	return result
}

func (s *headStream) fails(order *enginev1.ObjectOrder, kind engine.Kind) {
	s.t.Helper()
	if got := s.order(order).GetError(); got.GetKind() != kind.String() {
		s.t.Errorf("order %d: %v, expected kind %s", order.GetNumber(), got, kind)
	}
}

func (h *fakeHead) start(config objects.Config) *objects.Objects {
	h.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(h.t, err)
	config.Conn, config.Flight, config.Logger, config.HostID = h.conn, listener, slog.New(slog.DiscardHandler), "host"
	if config.Node == "" {
		config.Node = "n1"
	}
	config.CapacityBytes = 16 << 20
	o, err := objects.Start(h.ctx, config)
	check(h.t, err)
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		check(h.t, o.Stop(ctx))
	})
	return o
}

// bytesOf is an object of some rows.
func bytesOf(t *testing.T, rows int) []byte {
	t.Helper()
	builder := array.NewInt64Builder(memory.DefaultAllocator)
	defer builder.Release()
	for i := range rows {
		builder.Append(int64(i))
	}
	values := builder.NewArray()
	defer values.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	record := array.NewRecord(schema, []arrow.Array{values}, int64(rows))
	defer record.Release()
	encoding, err := table.Encode(schema, record)
	check(t, err)
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	return data
}

func keep(t *testing.T, store *objectstore.Store, owner engine.ObjectOwner, rows int) engine.ObjectID {
	t.Helper()
	data := bytesOf(t, rows)
	id := engine.NewObjectID()
	pending, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: int64(len(data)), Owner: owner})
	check(t, err)
	copy(pending.Bytes(), data)
	_, err = pending.Seal(objectstore.Description{Rows: int64(rows), Batches: 1})
	check(t, err)
	return id
}

var (
	pin     = engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
	session = engine.ObjectOwner{Kind: engine.OwnerSession, ID: "s"}
)

func wireOwners(owners ...engine.ObjectOwner) []*enginev1.ObjectOwner {
	return rpc.OwnersToProto(owners)
}

func TestOrders(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	s := head.stream()
	<-o.Joined()
	if o.Cluster() != "c1" {
		t.Errorf("cluster %q", o.Cluster())
	}
	data := bytesOf(t, 10)
	id := engine.NewObjectID()
	put := &enginev1.ObjectOrder{Number: 1, Order: &enginev1.ObjectOrder_Put{Put: &enginev1.PutObjectOrder{
		ObjectId: id[:], Data: data, Owner: wireOwners(session)[0], Domain: "red",
	}}}
	result := s.fine(put)
	if got := result.GetObject(); got.GetRows() != 10 || got.GetBatches() != 1 || !got.GetPrimary() || len(got.GetOwners()) != 1 || got.GetDomain() != "red" {
		t.Errorf("put %v", got)
	}
	if s.copies[id] == nil {
		t.Error("the put was not told before its result")
	}
	fetch := func(number uint64) *enginev1.ObjectOrder {
		return &enginev1.ObjectOrder{Number: number, Order: &enginev1.ObjectOrder_Fetch{Fetch: &enginev1.FetchObjectOrder{ObjectId: id[:]}}}
	}
	if got := s.fine(fetch(2)).GetData(); !bytes.Equal(got, data) {
		t.Error("fetched other bytes")
	}
	schema := s.fine(&enginev1.ObjectOrder{Number: 3, Order: &enginev1.ObjectOrder_Describe{Describe: &enginev1.DescribeObjectOrder{ObjectId: id[:]}}}).GetData()
	opened, err := table.Open(schema, table.Options{})
	check(t, err)
	if got := opened.Schema().Field(0).Name; got != "n" || len(opened.Records()) != 0 {
		t.Errorf("schema with field %q and %d record batches", got, len(opened.Records()))
	}
	opened.Release()
	s.fine(&enginev1.ObjectOrder{Number: 4, Order: &enginev1.ObjectOrder_Own{Own: &enginev1.OwnObjectOrder{ObjectId: id[:], Add: wireOwners(pin), Remove: wireOwners(session)}}})
	if got := s.copies[id].GetOwners(); len(got) != 1 || got[0].GetKind() != "pin" {
		t.Errorf("owners %v", got)
	}
	folder := t.TempDir()
	saved := s.fine(&enginev1.ObjectOrder{Number: 5, Order: &enginev1.ObjectOrder_Checkpoint{Checkpoint: &enginev1.CheckpointObjectOrder{ObjectId: id[:], Folder: folder}}})
	uri := saved.GetObject().GetCheckpoint()
	if uri == "" || s.copies[id].GetCheckpoint() != uri {
		t.Errorf("checkpoint %q, told %v", uri, s.copies[id])
	}
	s.fine(&enginev1.ObjectOrder{Number: 6, Order: &enginev1.ObjectOrder_EndOwner{EndOwner: &enginev1.EndOwnerOrder{Owner: wireOwners(pin)[0]}}})
	if s.copies[id] != nil {
		t.Error("the object outlives its last owner")
	}
	s.fails(fetch(7), engine.KindNotFound)
	restored := s.fine(&enginev1.ObjectOrder{Number: 8, Order: &enginev1.ObjectOrder_Restore{Restore: &enginev1.RestoreObjectOrder{Uri: uri, Domain: "red"}}})
	if c := s.copies[id]; c == nil || c.GetPrimary() || c.GetDomain() != "red" || !bytes.Equal(restored.GetObject().GetObjectId(), id[:]) {
		t.Errorf("restored %v", c)
	}
	s.fine(&enginev1.ObjectOrder{Number: 9, Order: &enginev1.ObjectOrder_Promote{Promote: &enginev1.PromoteObjectOrder{
		ObjectId: id[:], Owners: wireOwners(pin), Checkpoint: "s3://bucket/newer.arrows",
	}}})
	if c := s.copies[id]; !c.GetPrimary() || len(c.GetOwners()) != 1 || c.GetCheckpoint() != "s3://bucket/newer.arrows" {
		t.Errorf("promoted %v", c)
	}
	s.fine(&enginev1.ObjectOrder{Number: 10, Order: &enginev1.ObjectOrder_Delete{Delete: &enginev1.DeleteObjectsOrder{ObjectIds: [][]byte{id[:]}}}})
	if len(s.copies) != 0 {
		t.Errorf("left are %v", s.copies)
	}
	s.fine(&enginev1.ObjectOrder{Number: 11})

	large := keep(t, o.Store(), pin, 100_000)
	s.fails(&enginev1.ObjectOrder{Number: 12, Order: &enginev1.ObjectOrder_Fetch{Fetch: &enginev1.FetchObjectOrder{ObjectId: large[:]}}}, engine.KindInvalidArgument)
	bad := []byte("no stream")
	s.fails(&enginev1.ObjectOrder{Number: 13, Order: &enginev1.ObjectOrder_Put{Put: &enginev1.PutObjectOrder{ObjectId: id[:], Data: bad, Owner: wireOwners(pin)[0]}}}, engine.KindCorrupt)
	s.fails(&enginev1.ObjectOrder{Number: 14, Order: &enginev1.ObjectOrder_Put{Put: &enginev1.PutObjectOrder{ObjectId: id[:], Data: data}}}, engine.KindInvalidArgument)
	s.fails(&enginev1.ObjectOrder{Number: 15, Order: &enginev1.ObjectOrder_Delete{Delete: &enginev1.DeleteObjectsOrder{ObjectIds: [][]byte{{1}}}}}, engine.KindInvalidArgument)
	s.fails(&enginev1.ObjectOrder{Number: 16, Order: &enginev1.ObjectOrder_Own{Own: &enginev1.OwnObjectOrder{ObjectId: id[:]}}}, engine.KindNotFound)
	s.fails(&enginev1.ObjectOrder{Number: 17, Order: &enginev1.ObjectOrder_Restore{Restore: &enginev1.RestoreObjectOrder{Uri: filepath.Join(folder, "nothing.arrows")}}}, engine.KindNotFound)
	if usage := o.Store().Usage(); usage.Objects != 1 {
		t.Errorf("usage %+v", usage)
	}
}

// A put over Flight for a session that is not open is refused, and so is one whose session nobody can ask about; a pin needs no head.
func TestPutsNeedAnOpenSession(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	head.stream()
	far, err := transfer.Dial(t.Context(), o.Flight())
	check(t, err)
	t.Cleanup(func() { check(t, far.Close()) })
	put := func(session string) error {
		data := bytesOf(t, 10)
		opened, err := table.Open(data, table.Options{})
		check(t, err)
		defer opened.Release()
		encoding, err := table.Encode(opened.Schema(), opened.Records()...)
		check(t, err)
		defer encoding.Release()
		_, err = far.Put(t.Context(), engine.NewObjectID(), session, "red", encoding)
		return err
	}
	check(t, put(openSession))
	const other = "00000000000000000000000000000000"
	if err := put(other); engine.KindOf(err) != engine.KindFenced || !strings.Contains(err.Error(), other) {
		t.Errorf("a put for a session that is not open: %v", err)
	}
	head.stop()
	if err := put(openSession); engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(err.Error(), openSession) {
		t.Errorf("a put for a session while the head is away: %v", err)
	}
	check(t, put(""))
	all := o.Store().List()
	if len(all) != 2 || slices.ContainsFunc(all, func(info objectstore.Info) bool { return info.Domain != "red" }) {
		t.Errorf("the store has %+v", all)
	}
}

// TestRepeatedOrders breaks the stream on which a result was sent: the next one carries it again, and the order is not carried out twice.
func TestRepeatedOrders(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	s := head.stream()
	id := engine.NewObjectID()
	put := func(number uint64) *enginev1.ObjectOrder {
		return &enginev1.ObjectOrder{Number: number, Order: &enginev1.ObjectOrder_Put{Put: &enginev1.PutObjectOrder{ObjectId: id[:], Data: bytesOf(t, 10), Owner: wireOwners(pin)[0]}}}
	}
	s.fine(put(1))
	s.end <- engine.Errorf(engine.KindUnavailable, "sync", "", "the test ends the stream")
	s = head.stream()
	if c := s.copies[id]; !c.GetPrimary() || c.GetRows() != 10 {
		t.Errorf("the new stream begins with %v", s.copies)
	}
	o.Store().Delete(id)
	s.fine(put(1)) // It has been done, and is not done again.
	if _, ok := o.Store().Info(id); ok {
		t.Error("the order was carried out twice")
	}
	s.fine(put(2))
	s.fine(put(3)) // Another head may not know that its predecessor's order was carried out.
	other := put(4)
	other.GetPut().Data = bytesOf(t, 11)
	s.fails(other, engine.KindConflict)
}

func TestEverythingIsToldAgainOnANewStream(t *testing.T) {
	head := newHead(t)
	o := head.start(objects.Config{DataDir: t.TempDir()})
	s := head.stream()
	var ids []engine.ObjectID
	for range 50 {
		ids = append(ids, keep(t, o.Store(), pin, 1))
	}
	for len(s.copies) < len(ids) {
		s.hear()
	}
	s.end <- engine.Errorf(engine.KindUnavailable, "sync", "", "the test ends the stream")
	o.Store().Delete(ids[:10]...)
	s = head.stream()
	if len(s.copies) != 40 || s.copies[ids[0]] != nil {
		t.Errorf("%d copies are told, expected 40", len(s.copies))
	}
}

func TestGoodbyeLeavesNothing(t *testing.T) {
	head := newHead(t)
	dir := t.TempDir()
	first, second := head.start(objects.Config{DataDir: dir}), head.start(objects.Config{DataDir: dir, Node: "n2"})
	if first.Socket() == second.Socket() || first.Flight() == second.Flight() {
		t.Errorf("two workers share %s or %s", first.Socket(), first.Flight())
	}
	streams := []*headStream{head.stream(), head.stream()}
	id := keep(t, first.Store(), pin, 100_000)
	check(t, first.Store().Spill(t.Context(), id))
	keep(t, second.Store(), pin, 10)
	c, err := local.Dial(t.Context(), first.Socket(), local.Options{Client: "test"})
	check(t, err)
	got, _, err := c.Get(t.Context(), id, local.GetOptions{})
	check(t, err)
	if got.Rows() != 100_000 {
		t.Errorf("%d rows", got.Rows())
	}
	got.Release()
	if _, _, err := c.Get(t.Context(), engine.NewObjectID(), local.GetOptions{Fetch: true}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an unknown object: %v", err)
	}
	check(t, c.Close())
	for _, o := range []*objects.Objects{first, second} {
		check(t, o.Stop(t.Context()))
		check(t, o.Stop(t.Context())) // Does nothing.
	}
	for _, s := range streams {
		told := map[engine.ObjectID]bool{}
		for message := range s.messages {
			for _, c := range message.GetChanged() {
				told[engine.ObjectID(c.GetObjectId())] = true
			}
			if len(message.GetGone()) > 0 {
				t.Error("the head was told that objects were given up, which went with their store")
			}
		}
	}
	check(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) != ".lock" {
			t.Errorf("%s is left", path)
		}
		return err
	}))
}

// TestDamagedSpillFile has a client read an object whose spill file is damaged, from the copy of another node if there is one.
func TestDamagedSpillFile(t *testing.T) {
	head := newHead(t)
	dir := t.TempDir()
	first, second := head.start(objects.Config{DataDir: dir, Spill: filepath.Join(dir, "spilled")}), head.start(objects.Config{DataDir: dir, Node: "n2"})
	copied, alone := keep(t, first.Store(), pin, 100_000), keep(t, first.Store(), pin, 100_001)
	head.knows(copied, map[string]*objects.Objects{"n1": first})
	check(t, second.Fetch(t.Context(), copied))
	head.knows(copied, map[string]*objects.Objects{"n1": first, "n2": second})
	head.knows(alone, map[string]*objects.Objects{"n1": first})
	for _, id := range []engine.ObjectID{copied, alone} {
		check(t, first.Store().Spill(t.Context(), id))
	}
	damaged := 0
	check(t, filepath.WalkDir(filepath.Join(dir, "spilled"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		damaged++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	}))
	if damaged != 2 {
		t.Fatalf("%d spill files, want 2", damaged)
	}
	c, err := local.Dial(t.Context(), first.Socket(), local.Options{Client: "test"})
	check(t, err)
	defer func() { check(t, c.Close()) }()
	got, _, err := c.Get(t.Context(), copied, local.GetOptions{Fetch: true})
	check(t, err)
	if got.Rows() != 100_000 {
		t.Errorf("%d rows", got.Rows())
	}
	got.Release()
	handle, err := first.Store().Get(t.Context(), copied)
	check(t, err)
	if !bytes.Equal(handle.Bytes(), bytesOf(t, 100_000)) {
		t.Error("other bytes")
	}
	handle.Release()
	if info, _ := first.Store().Info(copied); !info.Primary || info.Spilled != "" {
		t.Errorf("the rescued object is %+v", info)
	}
	_, _, err = c.Get(t.Context(), alone, local.GetOptions{Fetch: true})
	if engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), "no other copy could be had") {
		t.Errorf("without another copy: %v", err)
	}
}

// TestSweep leaves what a worker leaves that was killed, and what belongs to somebody else.
func TestSweep(t *testing.T) {
	head := newHead(t)
	dir := t.TempDir()
	spillDir := filepath.Join(dir, "spill")
	claims := filepath.Join(dir, "spill-claims")
	bucket, err := file.Open(spillDir)
	check(t, err)
	defer bucket.Close()
	leave := func(node engine.NodeID, generation string) string {
		key := spill.Key(node, generation, engine.NewObjectID(), 1)
		_, err := bucket.Put(t.Context(), key, bytes.NewReader([]byte("x")), 1, blob.PutOptions{})
		check(t, err)
		return filepath.Join(spillDir, filepath.FromSlash(key))
	}
	dead, err := spill.NewClaim(claims, "dead", spillDir)
	check(t, err)
	orphan := leave("dead", dead.Generation())
	check(t, dead.Close(t.Context(), nil)) // Its process is gone, and its file stays.
	living, err := spill.NewClaim(claims, "living", spillDir)
	check(t, err)
	owned := leave("living", living.Generation())
	foreign := leave("foreign", "0123456789abcdef")

	o := head.start(objects.Config{DataDir: dir})
	head.stream()
	for i := 0; ; i++ {
		entries, err := os.ReadDir(claims)
		check(t, err)
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return len(e.Name()) > 4 && e.Name()[:4] == "dead" }) {
			break
		}
		if head.ctx.Err() != nil {
			t.Fatal("the dead worker's claim is still there")
		}
	}
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead worker's file: %v", err)
	}
	for _, path := range []string{owned, foreign} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	check(t, o.Stop(t.Context()))
	check(t, living.Close(t.Context(), nil))
}

func TestStartThatFails(t *testing.T) {
	head := newHead(t)
	for name, config := range map[string]objects.Config{
		"spill to nowhere":  {Spill: "ftp://host", DataDir: t.TempDir(), CapacityBytes: 1 << 20},
		"no capacity":       {DataDir: t.TempDir()},
		"no data folder":    {DataDir: filepath.Join(os.Args[0], "x"), CapacityBytes: 1 << 20},
		"a name of no node": {DataDir: t.TempDir(), CapacityBytes: 1 << 20, Node: "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			config.Conn, config.Flight, config.Logger = head.conn, listener, slog.New(slog.DiscardHandler)
			if config.Node == "" {
				config.Node = "n1"
			}
			if _, err = objects.Start(t.Context(), config); err == nil {
				t.Fatal("it starts")
			}
			if _, err := listener.Accept(); err == nil {
				t.Error("the listener is still open")
			}
		})
	}
}
