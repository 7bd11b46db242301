package rpc_test

import (
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestObjectIDsOnTheWire(t *testing.T) {
	ids := []engine.ObjectID{engine.NewObjectID(), engine.NewObjectID()}
	got, err := rpc.ObjectIDsFromProto(rpc.ObjectIDsToProto(ids))
	if err != nil || !slices.Equal(got, ids) {
		t.Errorf("got %v, %v, expected %v", got, err, ids)
	}
	for _, bad := range [][]byte{nil, {1}, make([]byte, 16), make([]byte, 17)} {
		if _, err := rpc.ObjectIDsFromProto([][]byte{bad}); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%d bytes: %v, expected an invalid argument", len(bad), err)
		}
	}
}

func TestOwnersOnTheWire(t *testing.T) {
	owners := []engine.ObjectOwner{
		{Kind: engine.OwnerSession, ID: "a"}, {Kind: engine.OwnerTask, ID: "j/1"}, {Kind: engine.OwnerJob, ID: "j"},
		{Kind: engine.OwnerPin, ID: "prices/today", Expires: time.Unix(1800000000, 5).UTC()},
	}
	got, err := rpc.OwnersFromProto(rpc.OwnersToProto(owners))
	if err != nil || !slices.Equal(got, owners) {
		t.Errorf("got %v, %v, expected %v", got, err, owners)
	}
	for _, bad := range []*enginev1.ObjectOwner{nil, {Kind: "session"}, {Id: "a"}, {Kind: "friend", Id: "a"}} {
		if _, err := rpc.OwnersFromProto([]*enginev1.ObjectOwner{bad}); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%v: %v, expected an invalid argument", bad, err)
		}
	}
}

// TestObjectStates sees that every state of the wire has one of ours.
func TestObjectStates(t *testing.T) {
	for wire, name := range enginev1.ObjectState_name {
		state := rpc.ObjectStateFromProto(enginev1.ObjectState(wire))
		if back := rpc.ObjectStateToProto(state); back != enginev1.ObjectState(wire) {
			t.Errorf("%s is %q, which is %s", name, state, back)
		}
	}
}
