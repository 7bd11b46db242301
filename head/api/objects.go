package api

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Bounds of one request.
const (
	maxObjectIDs    = 100_000
	maxListedLimit  = 10_000
	defaultListed   = 100
	maxPinLifeYears = 100
)

// Objects serves enginev1.ObjectService.
type Objects struct {
	enginev1.UnimplementedObjectServiceServer
	directory *objects.Directory
	sessions  *sessions
}

// NewObjects makes the server of a directory.
func NewObjects(directory *objects.Directory) *Objects {
	return &Objects{directory: directory, sessions: &sessions{directory: directory, by: map[string]string{}}}
}

// OpenSession implements enginev1.ObjectServiceServer.
func (s *Objects) OpenSession(stream grpc.BidiStreamingServer[enginev1.OpenSessionRequest, enginev1.OpenSessionResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	id := first.GetSessionId()
	if err := s.sessions.claim(stream.Context(), id); err != nil {
		return err
	}
	number, err := s.directory.OpenSession(id)
	if err != nil {
		return err
	}
	answer := &enginev1.OpenSessionResponse{ClusterId: s.directory.ClusterID(), LeaseTime: durationpb.New(s.directory.LeaseTime())}
	for {
		if err := stream.Send(answer); err != nil {
			return err
		}
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			s.directory.CloseSession(id, number)
			return nil
		} else if err != nil {
			return err // The stream broke; the client has a lease time to come back.
		}
		if !s.directory.RenewSession(id, number) {
			return engine.Errorf(engine.KindFenced, "keep session", id, "the session has ended, or another stream keeps it")
		}
	}
}

// ListStores implements enginev1.ObjectServiceServer.
func (s *Objects) ListStores(context.Context, *enginev1.ListStoresRequest) (*enginev1.ListStoresResponse, error) {
	return &enginev1.ListStoresResponse{Stores: s.directory.Stores(), ClusterId: s.directory.ClusterID()}, nil
}

// PutObject implements enginev1.ObjectServiceServer.
func (s *Objects) PutObject(ctx context.Context, request *enginev1.PutObjectRequest) (*enginev1.PutObjectResponse, error) {
	id, err := objectID("put object", request.GetObjectId())
	if err != nil {
		return nil, err
	}
	owner, err := session("put object", request.GetSessionId())
	if err != nil {
		return nil, err
	}
	if len(request.GetData()) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, "put object", id.String(), "it has no data; even a table without rows is an Arrow IPC stream")
	}
	domain, err := checkDomain(ctx, "put object", request.GetDomain())
	if err != nil {
		return nil, err
	}
	if err := s.sessions.check(ctx, "put object", owner.ID); err != nil {
		return nil, err
	}
	info, err := s.directory.Put(ctx, id, request.GetData(), domain, owner)
	return &enginev1.PutObjectResponse{Object: info}, err
}

// GetObject implements enginev1.ObjectServiceServer.
func (s *Objects) GetObject(ctx context.Context, request *enginev1.GetObjectRequest) (*enginev1.GetObjectResponse, error) {
	id, err := objectID("get object", request.GetObjectId())
	if err != nil {
		return nil, err
	}
	wait := request.GetTimeout() != nil
	if wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, request.GetTimeout().AsDuration())
		defer cancel()
	}
	data, info, err := s.directory.Get(ctx, id, wait)
	if err == nil {
		err = access.Check(ctx, "get object", id.String(), info.GetDomain())
	}
	if err != nil {
		return nil, err
	}
	return &enginev1.GetObjectResponse{Data: data, Object: info}, nil
}

// WaitObjects implements enginev1.ObjectServiceServer.
func (s *Objects) WaitObjects(ctx context.Context, request *enginev1.WaitObjectsRequest) (*enginev1.WaitObjectsResponse, error) {
	ids, err := objectIDs("wait for objects", request.GetObjectIds())
	if err != nil {
		return nil, err
	}
	if err := checkObjects(ctx, s.directory, "wait for objects", ids); err != nil {
		return nil, err
	}
	count := int(request.GetCount())
	if count < 0 || count > len(ids) {
		return nil, engine.Errorf(engine.KindInvalidArgument, "wait for objects", "", "%d of %d objects cannot be waited for", count, len(ids))
	}
	// The answer must be on its way before the caller's own deadline, or it tells nothing of what is there.
	limit := 100 * 365 * 24 * time.Hour
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
		limit -= min(waitMargin, limit/10)
	}
	if request.GetTimeout() != nil {
		limit = min(limit, request.GetTimeout().AsDuration())
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ready, err := s.directory.Wait(ctx, ids, count)
	return &enginev1.WaitObjectsResponse{Ready: rpc.ObjectIDsToProto(ready)}, err
}

// waitMargin is how long before the caller's deadline a wait is answered.
const waitMargin = 50 * time.Millisecond

// DescribeObjects implements enginev1.ObjectServiceServer.
func (s *Objects) DescribeObjects(ctx context.Context, request *enginev1.DescribeObjectsRequest) (*enginev1.DescribeObjectsResponse, error) {
	ids, err := objectIDs("describe objects", request.GetObjectIds())
	if err != nil {
		return nil, err
	}
	if n := len(request.GetNames()); n > maxObjectIDs {
		return nil, engine.Errorf(engine.KindInvalidArgument, "describe objects", "", "%d names, at most %d are allowed", n, maxObjectIDs)
	}
	found, err := s.directory.Describe(ctx, ids, request.GetNames())
	caller := access.Of(ctx)
	found = slices.DeleteFunc(found, func(info *enginev1.ObjectInfo) bool { return !caller.MayUse(info.GetDomain()) })
	return &enginev1.DescribeObjectsResponse{Objects: found}, err
}

// ListObjects implements enginev1.ObjectServiceServer.
func (s *Objects) ListObjects(ctx context.Context, request *enginev1.ListObjectsRequest) (*enginev1.ListObjectsResponse, error) {
	limit := int(request.GetLimit())
	switch {
	case limit < 0:
		return nil, engine.Errorf(engine.KindInvalidArgument, "list objects", "", "a limit of %d", limit)
	case limit == 0:
		limit = defaultListed
	}
	filter := objects.Filter{
		OwnerKind: engine.OwnerKind(request.GetOwnerKind()), OwnerID: request.GetOwnerId(), Node: engine.NodeID(request.GetNodeId()),
	}
	if caller := access.Of(ctx); !caller.IsUnrestricted() {
		filter.Granted = caller.MayUse
	}
	switch filter.OwnerKind {
	case "", engine.OwnerSession, engine.OwnerTask, engine.OwnerJob, engine.OwnerPin:
	default:
		return nil, engine.Errorf(engine.KindInvalidArgument, "list objects", "", "%q is no kind of owner: expected session, task, job, or pin", filter.OwnerKind)
	}
	found, total, bytes := s.directory.List(filter, min(limit, maxListedLimit))
	return &enginev1.ListObjectsResponse{Objects: found, Total: total, TotalBytes: bytes}, nil
}

// DeleteObjects implements enginev1.ObjectServiceServer.
func (s *Objects) DeleteObjects(ctx context.Context, request *enginev1.DeleteObjectsRequest) (*enginev1.DeleteObjectsResponse, error) {
	ids, err := objectIDs("delete objects", request.GetObjectIds())
	if err != nil {
		return nil, err
	}
	if err := checkObjects(ctx, s.directory, "delete objects", ids); err != nil {
		return nil, err
	}
	return &enginev1.DeleteObjectsResponse{}, s.directory.Delete(ctx, ids)
}

// HoldObjects implements enginev1.ObjectServiceServer.
func (s *Objects) HoldObjects(ctx context.Context, request *enginev1.HoldObjectsRequest) (*enginev1.HoldObjectsResponse, error) {
	ids, owner, err := idsAndSession("hold objects", request.GetObjectIds(), request.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := s.checkHold(ctx, "hold objects", ids, owner); err != nil {
		return nil, err
	}
	return &enginev1.HoldObjectsResponse{}, s.directory.Hold(ctx, ids, owner)
}

// ReleaseObjects implements enginev1.ObjectServiceServer.
func (s *Objects) ReleaseObjects(ctx context.Context, request *enginev1.ReleaseObjectsRequest) (*enginev1.ReleaseObjectsResponse, error) {
	ids, owner, err := idsAndSession("release objects", request.GetObjectIds(), request.GetSessionId())
	if err != nil {
		return nil, err
	}
	if err := s.checkHold(ctx, "release objects", ids, owner); err != nil {
		return nil, err
	}
	return &enginev1.ReleaseObjectsResponse{}, s.directory.Release(ctx, ids, owner)
}

// PinObject implements enginev1.ObjectServiceServer.
func (s *Objects) PinObject(ctx context.Context, request *enginev1.PinObjectRequest) (*enginev1.PinObjectResponse, error) {
	id, err := objectID("pin object", request.GetObjectId())
	if err != nil {
		return nil, err
	}
	pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: request.GetName()}
	if pin.ID == "" {
		pin.ID = id.String()
	}
	if err := checkPin("pin object", pin.ID); err != nil {
		return nil, err
	}
	if request.GetTtl() != nil {
		ttl := request.GetTtl().AsDuration()
		if ttl <= 0 || ttl > maxPinLifeYears*365*24*time.Hour {
			return nil, engine.Errorf(engine.KindInvalidArgument, "pin object", id.String(), "a pin of %s; it must last longer than nothing and at most %d years", ttl, maxPinLifeYears)
		}
		pin.Expires = time.Now().Add(ttl)
	}
	if err := checkObjects(ctx, s.directory, "pin object", []engine.ObjectID{id}, pin.ID); err != nil {
		return nil, err
	}
	info, err := s.directory.Pin(ctx, id, pin)
	return &enginev1.PinObjectResponse{Object: info}, err
}

// UnpinObject implements enginev1.ObjectServiceServer.
func (s *Objects) UnpinObject(ctx context.Context, request *enginev1.UnpinObjectRequest) (*enginev1.UnpinObjectResponse, error) {
	if err := checkPin("unpin object", request.GetName()); err != nil {
		return nil, err
	}
	if err := checkObjects(ctx, s.directory, "unpin object", nil, request.GetName()); err != nil {
		return nil, err
	}
	return &enginev1.UnpinObjectResponse{}, s.directory.Unpin(ctx, request.GetName())
}

// CheckpointObject implements enginev1.ObjectServiceServer.
func (s *Objects) CheckpointObject(ctx context.Context, request *enginev1.CheckpointObjectRequest) (*enginev1.CheckpointObjectResponse, error) {
	id, err := objectID("checkpoint object", request.GetObjectId())
	if err != nil {
		return nil, err
	}
	if err := checkPlace("checkpoint object", "folder", request.GetFolder()); err != nil {
		return nil, err
	}
	if err := checkObjects(ctx, s.directory, "checkpoint object", []engine.ObjectID{id}); err != nil {
		return nil, err
	}
	uri, info, err := s.directory.Checkpoint(ctx, id, request.GetFolder())
	return &enginev1.CheckpointObjectResponse{Uri: uri, Object: info}, err
}

// RestoreObject implements enginev1.ObjectServiceServer.
func (s *Objects) RestoreObject(ctx context.Context, request *enginev1.RestoreObjectRequest) (*enginev1.RestoreObjectResponse, error) {
	if err := checkPlace("restore object", "file", request.GetUri()); err != nil {
		return nil, err
	}
	owner, err := session("restore object", request.GetSessionId())
	if err != nil {
		return nil, err
	}
	domain, err := checkDomain(ctx, "restore object", request.GetDomain())
	if err != nil {
		return nil, err
	}
	if err := s.sessions.check(ctx, "restore object", owner.ID); err != nil {
		return nil, err
	}
	info, err := s.directory.Restore(ctx, request.GetUri(), domain, owner)
	if err == nil { // The cluster may have it already, in its own domain.
		err = access.Check(ctx, "restore object", request.GetUri(), info.GetDomain())
	}
	if err != nil {
		return nil, err
	}
	return &enginev1.RestoreObjectResponse{Object: info}, nil
}

// GetObjectStoreUsage implements enginev1.ObjectServiceServer.
func (s *Objects) GetObjectStoreUsage(ctx context.Context, _ *enginev1.GetObjectStoreUsageRequest) (*enginev1.GetObjectStoreUsageResponse, error) {
	stores := s.directory.Usage()
	if !access.Of(ctx).IsUnrestricted() {
		for _, store := range stores {
			store.Owners = nil // They are of all queues.
		}
	}
	return &enginev1.GetObjectStoreUsageResponse{Stores: stores}, nil
}

// checkHold refuses objects that the caller may not use, and a session that is another's.
func (s *Objects) checkHold(ctx context.Context, operation string, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	if err := s.sessions.check(ctx, operation, owner.ID); err != nil {
		return err
	}
	return checkObjects(ctx, s.directory, operation, ids)
}

func objectID(operation string, wire []byte) (engine.ObjectID, error) {
	id, err := rpc.ObjectIDFromProto(wire)
	return id, engine.WrapError(operation, "", err)
}

func objectIDs(operation string, wire [][]byte) ([]engine.ObjectID, error) {
	if len(wire) > maxObjectIDs {
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "%d objects, at most %d are allowed", len(wire), maxObjectIDs)
	}
	ids, err := rpc.ObjectIDsFromProto(wire)
	return ids, engine.WrapError(operation, "", err)
}

// session returns the owner that a session is.
func session(operation, id string) (engine.ObjectOwner, error) {
	if id == "" {
		return engine.ObjectOwner{}, engine.Errorf(engine.KindInvalidArgument, operation, "", "a session id is required: the object would have no owner").
			WithHint("open one with OpenSession")
	}
	return engine.ObjectOwner{Kind: engine.OwnerSession, ID: id}, engine.WrapError(operation, "", objects.CheckSession(id))
}

func idsAndSession(operation string, wire [][]byte, sessionID string) ([]engine.ObjectID, engine.ObjectOwner, error) {
	ids, err := objectIDs(operation, wire)
	if err != nil {
		return nil, engine.ObjectOwner{}, err
	}
	owner, err := session(operation, sessionID)
	return ids, owner, err
}

// checkPin refuses what is no pin's name. Names follow the rule of submission ids.
func checkPin(operation, name string) error {
	if err := engine.CheckSubmissionID(name); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, operation, "", "%q is no name of a pin: use 1 to 200 letters, digits, and ._:/@+-", name)
	}
	return nil
}

// checkPlace refuses what names no folder or file that every node understands.
func checkPlace(operation, what, uri string) error {
	scheme, rest, ok := strings.Cut(uri, "://")
	switch {
	case ok && (scheme == "s3" || scheme == "file" || scheme == "mem") && rest != "", !ok && filepath.IsAbs(uri):
		return nil
	default:
		return engine.Errorf(engine.KindInvalidArgument, operation, uri, "%q is no %s: expected s3://bucket/..., file:///..., or an absolute path", uri, what)
	}
}
