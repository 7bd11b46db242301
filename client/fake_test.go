package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
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
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	testHost    = "this-host"
	testCluster = "20261122-080000-abcdefgh"
)

// fakeHead is an ObjectService that answers with what it is told to.
type fakeHead struct {
	enginev1.UnimplementedObjectServiceServer

	mu       sync.Mutex
	stores   []*enginev1.ObjectStoreAddress
	objects  map[engine.ObjectID]*enginev1.ObjectInfo
	data     map[engine.ObjectID][]byte
	pins     map[string]engine.ObjectID
	sessions map[string]int // messages of each
	streams  int
	goodbyes int
	ended    map[string]bool // sessions that are fenced
	lease    time.Duration
	// learns are objects that come when they are waited for.
	learns map[engine.ObjectID]bool
	err    error
	calls  []string
	// changed is closed and replaced at each message of a session.
	changed chan struct{}
	// tasks is its TaskService; nil if it has none.
	tasks *fakeTasks
}

func newFakeHead(stores ...*enginev1.ObjectStoreAddress) *fakeHead {
	return &fakeHead{
		stores: stores, objects: map[engine.ObjectID]*enginev1.ObjectInfo{}, data: map[engine.ObjectID][]byte{}, pins: map[string]engine.ObjectID{},
		sessions: map[string]int{}, ended: map[string]bool{}, lease: time.Second, learns: map[engine.ObjectID]bool{}, changed: make(chan struct{}),
	}
}

// address is a store of this machine, with a Flight service, or of another.
func address(node string, here bool) *enginev1.ObjectStoreAddress {
	a := &enginev1.ObjectStoreAddress{NodeId: node, HostId: "other-host", Flight: node + ":1"}
	if here {
		a.HostId, a.Socket = testHost, "/run/"+node
	}
	return a
}

func (h *fakeHead) called(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, name)
	return h.err
}

func (h *fakeHead) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.calls {
		if c == name {
			n++
		}
	}
	return n
}

// awaitSession waits until a session has sent as many messages.
func (h *fakeHead) awaitSession(t *testing.T, id string, messages int) {
	t.Helper()
	for {
		h.mu.Lock()
		n, changed := h.sessions[id], h.changed
		h.mu.Unlock()
		if n >= messages {
			return
		}
		select {
		case <-changed:
		case <-time.After(2 * time.Minute):
			t.Fatalf("session %s sent %d messages, want %d", id, n, messages)
		}
	}
}

func (h *fakeHead) OpenSession(stream grpc.BidiStreamingServer[enginev1.OpenSessionRequest, enginev1.OpenSessionResponse]) error {
	if err := h.called("open"); err != nil {
		return err
	}
	id := ""
	h.mu.Lock()
	h.streams++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.streams--
		close(h.changed)
		h.changed = make(chan struct{})
	}()
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			h.mu.Lock()
			h.goodbyes++
			h.mu.Unlock()
		}
		if err != nil {
			return nil
		}
		if id == "" {
			id = request.GetSessionId()
		}
		h.mu.Lock()
		if h.ended[id] {
			h.mu.Unlock()
			return engine.Errorf(engine.KindFenced, "keep session", id, "the session has ended")
		}
		h.sessions[id]++
		close(h.changed)
		h.changed = make(chan struct{})
		lease := h.lease
		h.mu.Unlock()
		if err := stream.Send(&enginev1.OpenSessionResponse{ClusterId: testCluster, LeaseTime: durationpb.New(lease)}); err != nil {
			return nil
		}
	}
}

func (h *fakeHead) ListStores(context.Context, *enginev1.ListStoresRequest) (*enginev1.ListStoresResponse, error) {
	if err := h.called("stores"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return &enginev1.ListStoresResponse{Stores: slices.Clone(h.stores), ClusterId: testCluster}, nil
}

func (h *fakeHead) PutObject(_ context.Context, r *enginev1.PutObjectRequest) (*enginev1.PutObjectResponse, error) {
	if err := h.called("put"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := engine.ObjectID(r.GetObjectId())
	info := &enginev1.ObjectInfo{ObjectId: id[:], SizeBytes: int64(len(r.GetData())), Owners: []*enginev1.ObjectOwner{{Kind: "session", Id: r.GetSessionId()}}}
	h.objects[id], h.data[id] = info, r.GetData()
	return &enginev1.PutObjectResponse{Object: info}, nil
}

func (h *fakeHead) GetObject(_ context.Context, r *enginev1.GetObjectRequest) (*enginev1.GetObjectResponse, error) {
	if err := h.called("get"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := engine.ObjectID(r.GetObjectId())
	info := h.objects[id]
	if info == nil {
		return nil, engine.Errorf(engine.KindNotFound, "get object", id.String(), "no such object")
	}
	return &enginev1.GetObjectResponse{Data: h.data[id], Object: info}, nil
}

func (h *fakeHead) WaitObjects(ctx context.Context, r *enginev1.WaitObjectsRequest) (*enginev1.WaitObjectsResponse, error) {
	if err := h.called("wait"); err != nil {
		return nil, err
	}
	response := &enginev1.WaitObjectsResponse{}
	h.mu.Lock()
	for _, wire := range r.GetObjectIds() {
		id := engine.ObjectID(wire)
		if h.learns[id] {
			h.objects[id] = &enginev1.ObjectInfo{ObjectId: id[:]}
		}
		if h.objects[id] != nil {
			response.Ready = append(response.Ready, wire)
		}
	}
	h.mu.Unlock()
	want := int(r.GetCount())
	if want == 0 {
		want = len(r.GetObjectIds())
	}
	if len(response.GetReady()) < want {
		timer := time.NewTimer(r.GetTimeout().AsDuration())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return response, nil
}

func (h *fakeHead) DescribeObjects(_ context.Context, r *enginev1.DescribeObjectsRequest) (*enginev1.DescribeObjectsResponse, error) {
	if err := h.called("describe"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	response := &enginev1.DescribeObjectsResponse{}
	ids := r.GetObjectIds()
	for _, name := range r.GetNames() {
		if id, ok := h.pins[name]; ok {
			ids = append(ids, id[:])
		}
	}
	for _, id := range ids {
		if info := h.objects[engine.ObjectID(id)]; info != nil {
			response.Objects = append(response.Objects, info)
		}
	}
	return response, nil
}

func (h *fakeHead) DeleteObjects(_ context.Context, r *enginev1.DeleteObjectsRequest) (*enginev1.DeleteObjectsResponse, error) {
	if err := h.called("delete"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range r.GetObjectIds() {
		delete(h.objects, engine.ObjectID(id))
	}
	return &enginev1.DeleteObjectsResponse{}, nil
}

func (h *fakeHead) PinObject(_ context.Context, r *enginev1.PinObjectRequest) (*enginev1.PinObjectResponse, error) {
	if err := h.called("pin"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := engine.ObjectID(r.GetObjectId())
	info := h.objects[id]
	if info == nil {
		return nil, engine.Errorf(engine.KindNotFound, "pin object", id.String(), "no such object")
	}
	h.pins[r.GetName()] = id
	return &enginev1.PinObjectResponse{Object: info}, nil
}

// fakeStore keeps encoded tables; it is near and far at once.
type fakeStore struct {
	name string

	mu      sync.Mutex
	objects map[engine.ObjectID][]byte
	// putErr and getErr are what calls return; putErrAfter says that the object is kept all the same.
	putErr, getErr error
	putErrAfter    bool
	fetched        int
	owner          string
	done           chan struct{}
	closed         bool
}

func newFakeStore(name string) *fakeStore {
	return &fakeStore{name: name, objects: map[engine.ObjectID][]byte{}, done: make(chan struct{})}
}

func (s *fakeStore) put(id engine.ObjectID, owner string, e *table.Encoding) (objectstore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putErr != nil && !s.putErrAfter {
		return objectstore.Info{}, s.putErr
	}
	if s.objects[id] != nil {
		return objectstore.Info{}, engine.Errorf(engine.KindConflict, "create object", id.String(), "it exists")
	}
	data := make([]byte, e.SizeBytes())
	e.CopyTo(data)
	s.objects[id], s.owner = data, owner
	return objectstore.Info{ID: id, SizeBytes: e.SizeBytes()}, s.putErr
}

func (s *fakeStore) get(id engine.ObjectID) (*table.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.getErr != nil {
		return nil, s.getErr
	}
	if s.objects[id] == nil {
		return nil, engine.Errorf(engine.KindNotFound, "get object", id.String(), "not here")
	}
	return table.Open(s.objects[id], table.Options{Trusted: true})
}

func (s *fakeStore) countFetch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched++
}

func (s *fakeStore) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *fakeStore) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.done)
}

// near and far are the store as clients on this machine and on others see it.
type near struct{ *fakeStore }

func (s near) Put(_ context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	return s.put(id, "socket", e)
}

func (s near) Get(_ context.Context, id engine.ObjectID, options local.GetOptions) (*table.Table, objectstore.Info, error) {
	if options.Fetch {
		s.countFetch()
	}
	t, err := s.get(id)
	return t, objectstore.Info{}, err
}

func (s near) Delete(_ context.Context, ids ...engine.ObjectID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.objects, id)
	}
	return s.putErr
}

func (s near) Done() <-chan struct{} { return s.done }

func (s near) Close() error { return s.close() }

type far struct{ *fakeStore }

func (s far) Put(_ context.Context, id engine.ObjectID, session, _ string, e *table.Encoding) (objectstore.Info, error) {
	return s.put(id, session, e)
}

func (s far) Get(_ context.Context, id engine.ObjectID) (*table.Table, error) { return s.get(id) }

func (s far) Close() error { return s.close() }

// world is a client with a fake head and fake stores.
type world struct {
	*client.Client
	t    testing.TB
	head *fakeHead

	mu sync.Mutex
	// near and far are dialled by socket and address.
	near, far map[string]*fakeStore
	dials     int
	serve     func()
	stop      func()
	closed    bool
}

// close closes the client before the end of the test.
func (w *world) close() {
	w.t.Helper()
	w.closed = true
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
}

// newWorld serves head on a listener of memory.
func newWorld(t testing.TB, head *fakeHead) *world {
	t.Helper()
	w := &world{t: t, head: head, near: map[string]*fakeStore{}, far: map[string]*fakeStore{}}
	var mu sync.Mutex
	var listener *bufconn.Listener
	w.serve = func() {
		l := bufconn.Listen(1 << 16)
		server := rpc.NewServer(slog.New(slog.DiscardHandler))
		enginev1.RegisterObjectServiceServer(server, head)
		if head.tasks != nil {
			enginev1.RegisterTaskServiceServer(server, head.tasks)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		mu.Lock()
		listener = l
		mu.Unlock()
		w.stop = func() {
			server.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	}
	w.serve()
	c, err := client.Dial(t.Context(), "passthrough:///fake", client.WithGRPCOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		mu.Lock()
		l := listener
		mu.Unlock()
		return l.DialContext(ctx)
	})))
	if err != nil {
		t.Fatal(err)
	}
	w.Client = c
	c.ReplaceStores(testHost, func(_ context.Context, socket string) (client.NearStore, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dials++
		if s := w.near[socket]; s != nil {
			return near{s}, nil
		}
		return nil, engine.Errorf(engine.KindUnavailable, "connect", socket, "nobody is there")
	}, func(_ context.Context, address string) (client.FarStore, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.far[address]; s != nil {
			return far{s}, nil
		}
		return nil, engine.Errorf(engine.KindUnavailable, "connect", address, "nobody is there")
	})
	t.Cleanup(func() {
		if !w.closed {
			w.close()
		}
		w.stop()
	})
	return w
}

func (w *world) setNear(node string, s *fakeStore) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.near["/run/"+node] = s
}

// numbers is a record of one column of n numbers from first on.
func numbers(t testing.TB, first, n int64) arrow.Record {
	t.Helper()
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer builder.Release()
	column := builder.Field(0).(*array.Int64Builder)
	for i := range n {
		column.Append(first + i)
	}
	record := builder.NewRecord()
	t.Cleanup(record.Release)
	return record
}

// large is a record that is too large for a message.
func large(t testing.TB) arrow.Record { return numbers(t, 7, engine.MaxInlineObjectBytes/8+1) }

func wantTable(t *testing.T, got *client.Table, want ...arrow.Record) {
	t.Helper()
	defer got.Release()
	if len(got.Records()) != len(want) {
		t.Fatalf("%d record batches, want %d", len(got.Records()), len(want))
	}
	for i, r := range got.Records() {
		if !array.RecordEqual(r, want[i]) {
			t.Errorf("record batch %d differs", i)
		}
	}
}
