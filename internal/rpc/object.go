package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// ObjectIDFromProto reads an object's id; an error of kind engine.KindInvalidArgument says how many bytes there are instead of 16.
func ObjectIDFromProto(wire []byte) (engine.ObjectID, error) {
	var id engine.ObjectID
	if len(wire) != len(id) {
		return id, engine.Errorf(engine.KindInvalidArgument, "read object id", "", "%d bytes, expected %d", len(wire), len(id))
	}
	copy(id[:], wire)
	if id == (engine.ObjectID{}) {
		return id, engine.Errorf(engine.KindInvalidArgument, "read object id", "", "all bytes are zero, which names no object")
	}
	return id, nil
}

// ObjectIDsFromProto reads ids.
func ObjectIDsFromProto(wire [][]byte) ([]engine.ObjectID, error) {
	ids := make([]engine.ObjectID, 0, len(wire))
	for _, w := range wire {
		id, err := ObjectIDFromProto(w)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// ObjectIDsToProto is the inverse of ObjectIDsFromProto.
func ObjectIDsToProto(ids []engine.ObjectID) [][]byte {
	wire := make([][]byte, 0, len(ids))
	for _, id := range ids {
		wire = append(wire, append([]byte(nil), id[:]...))
	}
	return wire
}

// OwnerFromProto reads an owner. What is no owner is an error of kind engine.KindInvalidArgument.
func OwnerFromProto(wire *enginev1.ObjectOwner) (engine.ObjectOwner, error) {
	owner, err := engine.ParseObjectOwner(wire.GetKind() + "/" + wire.GetId())
	if err != nil {
		return engine.ObjectOwner{}, err
	}
	owner.Expires = timeFromProto(wire.GetExpireTime())
	return owner, nil
}

// OwnersFromProto reads owners.
func OwnersFromProto(wire []*enginev1.ObjectOwner) ([]engine.ObjectOwner, error) {
	var owners []engine.ObjectOwner
	for _, w := range wire {
		owner, err := OwnerFromProto(w)
		if err != nil {
			return nil, err
		}
		owners = append(owners, owner)
	}
	return owners, nil
}

// OwnerToProto is the inverse of OwnerFromProto.
func OwnerToProto(owner engine.ObjectOwner) *enginev1.ObjectOwner {
	return &enginev1.ObjectOwner{Kind: string(owner.Kind), Id: owner.ID, ExpireTime: timeToProto(owner.Expires)}
}

// OwnersToProto is the inverse of OwnersFromProto.
func OwnersToProto(owners []engine.ObjectOwner) []*enginev1.ObjectOwner {
	var wire []*enginev1.ObjectOwner
	for _, owner := range owners {
		wire = append(wire, OwnerToProto(owner))
	}
	return wire
}

var objectStates = map[engine.ObjectState]enginev1.ObjectState{
	engine.ObjectPending:      enginev1.ObjectState_OBJECT_STATE_PENDING,
	engine.ObjectInMemory:     enginev1.ObjectState_OBJECT_STATE_IN_MEMORY,
	engine.ObjectSpilled:      enginev1.ObjectState_OBJECT_STATE_SPILLED,
	engine.ObjectCheckpointed: enginev1.ObjectState_OBJECT_STATE_CHECKPOINTED,
	engine.ObjectLost:         enginev1.ObjectState_OBJECT_STATE_LOST,
}

// ObjectStateToProto returns a state's wire value.
func ObjectStateToProto(state engine.ObjectState) enginev1.ObjectState { return objectStates[state] }

// ObjectStateFromProto is the inverse of ObjectStateToProto; a value that this program does not know is empty.
func ObjectStateFromProto(wire enginev1.ObjectState) engine.ObjectState {
	for state, w := range objectStates {
		if w == wire {
			return state
		}
	}
	return ""
}

func timeFromProto(wire *timestamppb.Timestamp) time.Time {
	if wire == nil {
		return time.Time{}
	}
	return wire.AsTime()
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
