package objects

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Fetch brings a copy of an object that is elsewhere into the store, from its checkpoint if no store has it. It does nothing if the object
// is here. It blocks until the copy is sealed or ctx ends. The errors' kinds: engine.KindNotFound for an object that the cluster does
// not know, engine.KindUnavailable for one that is lost or whose holders cannot be reached, engine.KindCorrupt if every copy is damaged;
// those of a creation if there is no room here.
func (o *Objects) Fetch(ctx context.Context, id engine.ObjectID) error {
	err := o.puller.Pull(ctx, id)
	if err != nil {
		// The head may have had its checkpoint restored in this very store.
		if _, ok := o.store.Info(id); ok {
			return nil
		}
	}
	return err
}

// rescue fills dst with another node's copy of an object whose spill file here is damaged.
func (o *Objects) rescue(ctx context.Context, id engine.ObjectID, _ int64, crc32c uint32, dst []byte) error {
	return o.puller.Fill(ctx, id, dst, crc32c)
}

// locate asks the head who has an object. One that has a checkpoint alone is brought back first.
func (o *Objects) locate(ctx context.Context, id engine.ObjectID) ([]transfer.Holder, error) {
	info, err := o.describe(ctx, id)
	if err != nil {
		return nil, err
	}
	if info == nil {
		return nil, engine.Errorf(engine.KindNotFound, "find object", id.String(), "no such object").
			WithHint("`engine list objects` shows those that there are")
	}
	if len(info.GetHolders()) == 0 {
		// The head restores it, or says why it is lost.
		ready, err := o.waitElsewhere(ctx, []engine.ObjectID{id}, 1)
		if err != nil {
			return nil, err
		}
		if len(ready) == 0 {
			return nil, engine.Errorf(engine.KindDeadline, "find object", id.String(), "no store had it again in time; its checkpoint is %s", info.GetCheckpoint())
		}
		if info, err = o.describe(ctx, id); err != nil {
			return nil, err
		}
	}
	var holders []transfer.Holder
	for _, h := range info.GetHolders() {
		if h.GetStore().GetFlight() == "" {
			continue
		}
		holders = append(holders, transfer.Holder{
			Node: engine.NodeID(h.GetStore().GetNodeId()), Address: h.GetStore().GetFlight(), SizeBytes: info.GetSizeBytes(),
			CRC32C: info.GetCrc32C(), Checked: info.Crc32C != nil, Domain: info.GetDomain(),
		})
	}
	return holders, nil
}

// describe returns what the head knows of an object, or nil.
func (o *Objects) describe(ctx context.Context, id engine.ObjectID) (*enginev1.ObjectInfo, error) {
	response, err := o.head.DescribeObjects(ctx, &enginev1.DescribeObjectsRequest{ObjectIds: [][]byte{id[:]}})
	if err != nil || len(response.GetObjects()) == 0 {
		return nil, err
	}
	return response.GetObjects()[0], nil
}

// waitElsewhere returns when count of the objects are in some store, or ctx ends.
func (o *Objects) waitElsewhere(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	request := &enginev1.WaitObjectsRequest{ObjectIds: rpc.ObjectIDsToProto(ids), Count: int32(min(count, len(ids)))} //nolint:gosec // Few.
	if deadline, ok := ctx.Deadline(); ok {
		request.Timeout = durationpb.New(time.Until(deadline))
	}
	response, err := o.head.WaitObjects(ctx, request)
	if err != nil {
		return nil, err
	}
	return rpc.ObjectIDsFromProto(response.GetReady())
}

// sessionWithin is how long the head may take to say whether a session is open.
const sessionWithin = 10 * time.Second

// ownerOf returns the owner that the headers of a put name. A session must be open: nobody would end the references of another. The
// errors' kinds: engine.KindFenced for a session that is not open, engine.KindUnavailable if the head cannot be asked.
func (o *Objects) ownerOf(ctx context.Context) (engine.ObjectOwner, error) {
	owner, err := transfer.OwnerOf(ctx)
	if err != nil || owner.Kind != engine.OwnerSession {
		return owner, err
	}
	asking, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	_, err = o.head.HoldObjects(asking, &enginev1.HoldObjectsRequest{SessionId: owner.ID})
	if err != nil && ctx.Err() == nil && asking.Err() != nil {
		err = engine.Errorf(engine.KindUnavailable, "ask head", "", "no answer within %s", sessionWithin)
	}
	return owner, engine.WrapError("check session", owner.ID, err)
}

// deleteEverywhere has the head delete objects. The head takes them for this worker's to delete, so whether they are the caller's is looked
// at here.
func (o *Objects) deleteEverywhere(ctx context.Context, ids []engine.ObjectID) error {
	if caller := access.Of(ctx); !caller.IsZero() && !caller.IsUnrestricted() {
		known, err := o.head.DescribeObjects(ctx, &enginev1.DescribeObjectsRequest{ObjectIds: rpc.ObjectIDsToProto(ids)})
		if err != nil {
			return err
		}
		for _, info := range known.GetObjects() {
			if err := access.Check(ctx, "delete object", fmt.Sprintf("%x", info.GetObjectId()), info.GetDomain()); err != nil {
				return err
			}
		}
	}
	_, err := o.head.DeleteObjects(ctx, &enginev1.DeleteObjectsRequest{ObjectIds: rpc.ObjectIDsToProto(ids)})
	return err
}
