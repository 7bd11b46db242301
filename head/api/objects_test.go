package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// objectServer serves a directory over loopback.
type objectServer struct {
	t       *testing.T
	ctx     context.Context
	objects enginev1.ObjectServiceClient
	workers enginev1.WorkerServiceClient
}

func serveObjects(t *testing.T, lease time.Duration) *objectServer {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	directory := objects.NewDirectory(objects.Config{ClusterID: "c", Term: 1, LeaseTime: lease}, logger, nil)
	server := rpc.NewServer(logger, asOwner()...)
	enginev1.RegisterObjectServiceServer(server, api.NewObjects(directory))
	enginev1.RegisterWorkerServiceServer(server, api.NewWorkers(nil, nil, directory, nil, logger, ""))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	conn, err := rpc.Dial(listener.Addr().String())
	check(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- directory.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, conn.Close())
		server.Stop()
		for range 2 {
			check(t, <-ended)
		}
	})
	return &objectServer{t: t, ctx: ctx, objects: enginev1.NewObjectServiceClient(conn), workers: enginev1.NewWorkerServiceClient(conn)}
}

func (s *objectServer) open(id string) enginev1.ObjectService_OpenSessionClient {
	s.t.Helper()
	stream, err := s.objects.OpenSession(s.ctx)
	check(s.t, err)
	check(s.t, stream.Send(&enginev1.OpenSessionRequest{SessionId: id}))
	answer, err := stream.Recv()
	check(s.t, err)
	if answer.GetClusterId() != "c" || answer.GetLeaseTime().AsDuration() <= 0 {
		s.t.Errorf("the session's answer is %v", answer)
	}
	return stream
}

var sessionID = strings.Repeat("a", 32)

func TestBadObjectRequests(t *testing.T) {
	s := serveObjects(t, time.Minute)
	stream := s.open(sessionID)
	id := engine.NewObjectID()
	known := engine.NewObjectID()
	s.store("n1", &enginev1.ObjectCopy{
		ObjectId: known[:], State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, SizeBytes: 7,
		Owners: []*enginev1.ObjectOwner{{Kind: "session", Id: sessionID}},
	})
	data := []byte("data")
	many := make([][]byte, 100_001)
	for name, test := range map[string]struct {
		call  func() error
		kind  engine.Kind
		words []string
	}{
		"put a malformed id": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: []byte{1}, Data: data, SessionId: sessionID}))
		}, engine.KindInvalidArgument, []string{"put object", "1 bytes", "expected 16"}},
		"put without a session": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data}))
		}, engine.KindInvalidArgument, []string{"session id is required"}},
		"put with a malformed session": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data, SessionId: "me"}))
		}, engine.KindInvalidArgument, []string{"me", "32 hexadecimal digits"}},
		"put with a session that is not open": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data, SessionId: strings.Repeat("b", 32)}))
		}, engine.KindFenced, []string{"not open"}},
		"put too much": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: make([]byte, engine.MaxInlineObjectBytes+1), SessionId: sessionID}))
		}, engine.KindInvalidArgument, []string{"102401", "102400"}},
		"put nothing": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: id[:], SessionId: sessionID}))
		}, engine.KindInvalidArgument, []string{id.String(), "no data"}},
		"put what is there": {func() error {
			return ignore(s.objects.PutObject(s.ctx, &enginev1.PutObjectRequest{ObjectId: known[:], Data: data, SessionId: sessionID}))
		}, engine.KindConflict, []string{known.String()}},
		"get a malformed id": {func() error {
			return ignore(s.objects.GetObject(s.ctx, &enginev1.GetObjectRequest{ObjectId: make([]byte, 16)}))
		}, engine.KindInvalidArgument, []string{"names no object"}},
		"get an unknown id": {func() error {
			return ignore(s.objects.GetObject(s.ctx, &enginev1.GetObjectRequest{ObjectId: id[:]}))
		}, engine.KindNotFound, []string{id.String(), "no such object"}},
		"get what does not come in time": {func() error {
			return ignore(s.objects.GetObject(s.ctx, &enginev1.GetObjectRequest{ObjectId: id[:], Timeout: durationpb.New(time.Millisecond)}))
		}, engine.KindDeadline, []string{id.String()}},
		"wait for more than there are": {func() error {
			return ignore(s.objects.WaitObjects(s.ctx, &enginev1.WaitObjectsRequest{ObjectIds: [][]byte{id[:]}, Count: 2}))
		}, engine.KindInvalidArgument, []string{"2 of 1"}},
		"wait for less than none": {func() error {
			return ignore(s.objects.WaitObjects(s.ctx, &enginev1.WaitObjectsRequest{ObjectIds: [][]byte{id[:]}, Count: -1}))
		}, engine.KindInvalidArgument, []string{"-1 of 1"}},
		"describe too many": {func() error {
			return ignore(s.objects.DescribeObjects(s.ctx, &enginev1.DescribeObjectsRequest{ObjectIds: many}))
		}, engine.KindInvalidArgument, []string{"100001", "100000"}},
		"delete a malformed id": {func() error {
			return ignore(s.objects.DeleteObjects(s.ctx, &enginev1.DeleteObjectsRequest{ObjectIds: [][]byte{{}}}))
		}, engine.KindInvalidArgument, []string{"delete objects"}},
		"list less than none": {func() error {
			return ignore(s.objects.ListObjects(s.ctx, &enginev1.ListObjectsRequest{Limit: -1}))
		}, engine.KindInvalidArgument, []string{"-1"}},
		"list by an unknown kind of owner": {func() error {
			return ignore(s.objects.ListObjects(s.ctx, &enginev1.ListObjectsRequest{OwnerKind: "friend"}))
		}, engine.KindInvalidArgument, []string{"friend"}},
		"hold an unknown id": {func() error {
			return ignore(s.objects.HoldObjects(s.ctx, &enginev1.HoldObjectsRequest{ObjectIds: [][]byte{id[:]}, SessionId: sessionID}))
		}, engine.KindNotFound, []string{id.String()}},
		"hold nothing for a session that is not open": {func() error {
			return ignore(s.objects.HoldObjects(s.ctx, &enginev1.HoldObjectsRequest{SessionId: strings.Repeat("b", 32)}))
		}, engine.KindFenced, []string{strings.Repeat("b", 32), "not open"}},
		"hold without a session": {func() error {
			return ignore(s.objects.HoldObjects(s.ctx, &enginev1.HoldObjectsRequest{ObjectIds: [][]byte{id[:]}}))
		}, engine.KindInvalidArgument, []string{"session id is required"}},
		"release without a session": {func() error {
			return ignore(s.objects.ReleaseObjects(s.ctx, &enginev1.ReleaseObjectsRequest{ObjectIds: [][]byte{id[:]}}))
		}, engine.KindInvalidArgument, []string{"session id is required"}},
		"pin with a bad name": {func() error {
			return ignore(s.objects.PinObject(s.ctx, &enginev1.PinObjectRequest{ObjectId: id[:], Name: "a b"}))
		}, engine.KindInvalidArgument, []string{"a b", "no name of a pin"}},
		"pin for no time": {func() error {
			return ignore(s.objects.PinObject(s.ctx, &enginev1.PinObjectRequest{ObjectId: id[:], Ttl: durationpb.New(0)}))
		}, engine.KindInvalidArgument, []string{"0s"}},
		"pin an unknown id": {func() error {
			return ignore(s.objects.PinObject(s.ctx, &enginev1.PinObjectRequest{ObjectId: id[:]}))
		}, engine.KindNotFound, []string{id.String()}},
		"unpin an unknown name": {func() error {
			return ignore(s.objects.UnpinObject(s.ctx, &enginev1.UnpinObjectRequest{Name: "nobody"}))
		}, engine.KindNotFound, []string{"nobody"}},
		"unpin nothing": {func() error {
			return ignore(s.objects.UnpinObject(s.ctx, &enginev1.UnpinObjectRequest{}))
		}, engine.KindInvalidArgument, []string{"no name of a pin"}},
		"checkpoint into nowhere": {func() error {
			return ignore(s.objects.CheckpointObject(s.ctx, &enginev1.CheckpointObjectRequest{ObjectId: known[:], Folder: "relative"}))
		}, engine.KindInvalidArgument, []string{"relative", "s3://"}},
		"checkpoint an unknown id": {func() error {
			return ignore(s.objects.CheckpointObject(s.ctx, &enginev1.CheckpointObjectRequest{ObjectId: id[:], Folder: "/tmp/x"}))
		}, engine.KindNotFound, []string{id.String()}},
		"restore from an unknown scheme": {func() error {
			return ignore(s.objects.RestoreObject(s.ctx, &enginev1.RestoreObjectRequest{Uri: "ftp://host/x", SessionId: sessionID}))
		}, engine.KindInvalidArgument, []string{"ftp://host/x"}},
		"restore without a session": {func() error {
			return ignore(s.objects.RestoreObject(s.ctx, &enginev1.RestoreObjectRequest{Uri: "/tmp/x"}))
		}, engine.KindInvalidArgument, []string{"session id is required"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.call()
			if err == nil || engine.KindOf(err) != test.kind {
				t.Fatalf("%v, expected an error of kind %s", err, test.kind)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
	// Without objects, the answer is whether the session is open.
	check(t, ignore(s.objects.HoldObjects(s.ctx, &enginev1.HoldObjectsRequest{SessionId: sessionID})))
	bad, err := s.objects.OpenSession(s.ctx)
	check(t, err)
	check(t, bad.Send(&enginev1.OpenSessionRequest{SessionId: "x"}))
	if _, err := bad.Recv(); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("a malformed session: %v", err)
	}
	check(t, stream.CloseSend())
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the goodbye ends with %v", err)
	}
}

func ignore[T any](_ T, err error) error { return err }

// store is a store that has some copies and answers orders with nothing but their numbers. Orders, one message each, come on the channel.
func (s *objectServer) store(node string, copies ...*enginev1.ObjectCopy) (enginev1.WorkerService_SyncObjectsClient, <-chan *enginev1.ObjectOrder) {
	s.t.Helper()
	stream, err := s.workers.SyncObjects(s.ctx)
	check(s.t, err)
	check(s.t, stream.Send(&enginev1.SyncObjectsRequest{
		Store: &enginev1.ObjectStoreAddress{NodeId: node}, Changed: copies, Complete: true, Usage: &enginev1.ObjectStoreUsage{CapacityBytes: 1 << 30},
	}))
	first, err := stream.Recv()
	check(s.t, err)
	if first.GetClusterId() != "c" {
		s.t.Errorf("the first answer is %v", first)
	}
	heard := make(chan *enginev1.ObjectOrder, 100)
	go func() {
		defer close(heard)
		for {
			answer, err := stream.Recv()
			if err != nil {
				return
			}
			report := &enginev1.SyncObjectsRequest{}
			for _, order := range answer.GetOrders() {
				heard <- order
				report.Results = append(report.Results, &enginev1.ObjectOrderResult{Number: order.GetNumber()})
			}
			if stream.Send(report) != nil {
				return
			}
		}
	}()
	return stream, heard
}

func TestSessionEndsWithItsStream(t *testing.T) {
	s := serveObjects(t, time.Minute)
	stream := s.open(sessionID)
	id := engine.NewObjectID()
	_, orders := s.store("n1", &enginev1.ObjectCopy{
		ObjectId: id[:], State: enginev1.ObjectState_OBJECT_STATE_SPILLED, Primary: true, Owners: []*enginev1.ObjectOwner{{Kind: "session", Id: sessionID}},
	})
	second := s.open(sessionID)
	_ = stream.Send(&enginev1.OpenSessionRequest{}) // The head may have ended the stream before.
	if _, err := stream.Recv(); engine.KindOf(err) != engine.KindFenced {
		t.Errorf("the stream that was replaced ends with %v", err)
	}
	check(t, second.Send(&enginev1.OpenSessionRequest{}))
	if _, err := second.Recv(); err != nil {
		t.Error(err)
	}
	check(t, second.CloseSend())
	if end := (<-orders).GetEndOwner(); end.GetOwner().GetId() != sessionID {
		t.Errorf("the store is told %v", end)
	}
}

func TestStoreThatSaysNonsenseIsCutOff(t *testing.T) {
	s := serveObjects(t, time.Minute)
	for name, first := range map[string]*enginev1.SyncObjectsRequest{
		"no address": {},
		"a bad id":   {Store: &enginev1.ObjectStoreAddress{NodeId: "n"}, Changed: []*enginev1.ObjectCopy{{ObjectId: []byte("x")}}},
	} {
		stream, err := s.workers.SyncObjects(s.ctx)
		check(t, err)
		check(t, stream.Send(first))
		for err == nil {
			_, err = stream.Recv()
		}
		if engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	stream, _ := s.store("n1")
	other, _ := s.store("n1") // Takes its place.
	for range 2 {
		if err := stream.Send(&enginev1.SyncObjectsRequest{}); err != nil {
			break
		}
	}
	check(t, other.CloseSend())
	for {
		stores, err := s.objects.ListStores(s.ctx, &enginev1.ListStoresRequest{})
		check(t, err)
		if len(stores.GetStores()) == 0 {
			return
		}
	}
}

func TestListAndUsage(t *testing.T) {
	s := serveObjects(t, time.Minute)
	var copies []*enginev1.ObjectCopy
	for i := range 20 {
		id := engine.NewObjectID()
		copies = append(copies, &enginev1.ObjectCopy{
			ObjectId: id[:], State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, SizeBytes: int64(i + 1),
			Owners: []*enginev1.ObjectOwner{{Kind: "job", Id: []string{"a", "b"}[i%2]}},
		})
	}
	s.store("n1", copies...)
	s.store("n2")
	for _, test := range []struct {
		request      *enginev1.ListObjectsRequest
		n            int
		total, bytes int64
		first        int64
	}{
		{&enginev1.ListObjectsRequest{}, 20, 20, 210, 20},
		{&enginev1.ListObjectsRequest{Limit: 3}, 3, 20, 210, 20},
		{&enginev1.ListObjectsRequest{OwnerKind: "job", OwnerId: "a"}, 10, 10, 100, 19},
		{&enginev1.ListObjectsRequest{OwnerId: "b", Limit: 1}, 1, 10, 110, 20},
		{&enginev1.ListObjectsRequest{OwnerKind: "pin"}, 0, 0, 0, 0},
		{&enginev1.ListObjectsRequest{NodeId: "n1"}, 20, 20, 210, 20},
		{&enginev1.ListObjectsRequest{NodeId: "n2"}, 0, 0, 0, 0},
	} {
		got, err := s.objects.ListObjects(s.ctx, test.request)
		check(t, err)
		if len(got.GetObjects()) != test.n || got.GetTotal() != test.total || got.GetTotalBytes() != test.bytes {
			t.Errorf("%v: %d objects of %d, %d bytes", test.request, len(got.GetObjects()), got.GetTotal(), got.GetTotalBytes())
		}
		for i, o := range got.GetObjects() {
			if i == 0 && o.GetSizeBytes() != test.first || i > 0 && o.GetSizeBytes() >= got.GetObjects()[i-1].GetSizeBytes() {
				t.Errorf("%v: object %d has %d bytes", test.request, i, o.GetSizeBytes())
			}
		}
	}
	usage, err := s.objects.GetObjectStoreUsage(s.ctx, &enginev1.GetObjectStoreUsageRequest{})
	check(t, err)
	owners := usage.GetStores()[0].GetOwners()
	if len(usage.GetStores()) != 2 || len(owners) != 2 || owners[0].GetOwner().GetId() != "b" || owners[0].GetSizeBytes() != 110 || owners[0].GetObjects() != 10 {
		t.Errorf("usage %v", usage)
	}
}
