package rpc

import (
	"errors"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// NotLeader stands in the chain of an error of kind engine.KindUnavailable whose call met a head that does not lead, or that ceased to
// while the call was under way. The call may be repeated at the head that leads; Heads does so. It travels with the error.
type NotLeader struct {
	// HeadID and Address are those of the head that leads; empty while nobody is known to.
	HeadID, Address string
	// text is what the head that answered said. Empty for an error of this process.
	text string
}

// Error names the head that leads.
func (n *NotLeader) Error() string {
	switch {
	case n.text != "":
		return n.text
	case n.Address == "":
		return "no head leads the cluster at the moment"
	default:
		return "the head at " + n.Address + " leads the cluster"
	}
}

// NewNotLeader makes the error of an operation. cause, which may be nil, is what the operation itself failed with.
func NewNotLeader(operation, headID, address string, cause error) *engine.Error {
	n := &NotLeader{HeadID: headID, Address: address}
	if cause != nil {
		n.text = n.Error() + ": " + cause.Error()
	}
	e := &engine.Error{Kind: engine.KindUnavailable, Op: operation, Err: n}
	if address == "" {
		e.Hint = "more than half of the heads must run and reach each other; `engine status` lists them"
	}
	return e
}

// IsNotLeader returns what err says of the head that leads, or nil if err is of another sort.
func IsNotLeader(err error) *NotLeader {
	var n *NotLeader
	if errors.As(err, &n) {
		return n
	}
	return nil
}

// notLeaderToProto returns the detail that goes with an error, or nil.
func notLeaderToProto(err error) *enginev1.NotLeader {
	if n := IsNotLeader(err); n != nil {
		return &enginev1.NotLeader{HeadId: Text(n.HeadID), Address: Text(n.Address)}
	}
	return nil
}

// withNotLeader puts a detail back into the error that it came with.
func withNotLeader(e *engine.Error, wire *enginev1.NotLeader) *engine.Error {
	if wire == nil {
		return e
	}
	e.Err = &NotLeader{HeadID: wire.GetHeadId(), Address: wire.GetAddress(), text: e.Err.Error()}
	return e
}
