package api

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Heads serves the calls of enginev1.ClusterService that are about the heads themselves. Any head answers ListHeads; the others are the
// leader's.
type Heads struct {
	enginev1.UnimplementedClusterServiceServer
	store   *state.Store
	address string
	serving func() bool
	check   func(ctx context.Context, address string) error
}

// NewHeads makes the server of the head that store is of and that others reach at address. serving tells whether it leads and serves,
// and check refuses the address of a head that must not join.
func NewHeads(store *state.Store, address string, serving func() bool, check func(ctx context.Context, address string) error) *Heads {
	return &Heads{store: store, address: address, serving: serving, check: check}
}

// ListHeads implements enginev1.ClusterServiceServer. The head that answers leads only if it can be asked for everything else, too.
func (s *Heads) ListHeads(context.Context, *enginev1.ListHeadsRequest) (*enginev1.ListHeadsResponse, error) {
	self := s.store.HeadID()
	response := &enginev1.ListHeadsResponse{HeadId: self}
	s.store.View(func(st *state.State) { response.ClusterId = st.ClusterID })
	for _, head := range s.store.Heads() {
		info := &enginev1.HeadInfo{HeadId: head.ID, Address: head.Address, Leader: head.Leader, Voter: head.Voter, State: headStates[head.State]}
		if head.ID == self {
			// It may have moved since the others were told.
			info.Address, info.Leader = s.address, s.serving()
		}
		response.Heads = append(response.Heads, info)
	}
	return response, nil
}

var headStates = map[state.HeadState]enginev1.HeadState{
	state.HeadUnknown: enginev1.HeadState_HEAD_STATE_UNSPECIFIED, state.HeadLeads: enginev1.HeadState_HEAD_STATE_LEADS,
	state.HeadFollows: enginev1.HeadState_HEAD_STATE_FOLLOWS, state.HeadSilent: enginev1.HeadState_HEAD_STATE_SILENT,
}

// AddHead implements enginev1.ClusterServiceServer.
func (s *Heads) AddHead(ctx context.Context, request *enginev1.AddHeadRequest) (*enginev1.AddHeadResponse, error) {
	const operation = "add head"
	id, address := request.GetHeadId(), request.GetAddress()
	switch {
	case id == "" || len(id) > 255:
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, "", "the head must have an id of at most 255 bytes")
	case address == "":
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, id, "the head must have an address")
	}
	if err := s.check(ctx, address); err != nil {
		return nil, engine.WrapError(operation, id, err)
	}
	if err := s.lead(operation); err != nil {
		return nil, err
	}
	var cluster string
	s.store.View(func(st *state.State) { cluster = st.ClusterID })
	switch {
	case request.GetClusterId() != "" && request.GetClusterId() != cluster:
		return nil, engine.Errorf(engine.KindConflict, operation, id, "its data folder is of cluster %s, and this cluster is %s", request.GetClusterId(), cluster).
			WithHint("give the head an empty --data-dir to join with")
	case address == s.address && id != s.store.HeadID():
		return nil, engine.Errorf(engine.KindConflict, operation, id, "%s is the address of the head that leads", address)
	}
	if err := s.store.AddHead(ctx, id, address); err != nil {
		return nil, s.explain(operation, err)
	}
	return &enginev1.AddHeadResponse{}, nil
}

// RemoveHead implements enginev1.ClusterServiceServer.
func (s *Heads) RemoveHead(ctx context.Context, request *enginev1.RemoveHeadRequest) (*enginev1.RemoveHeadResponse, error) {
	const operation = "remove head"
	if err := s.lead(operation); err != nil {
		return nil, err
	}
	if err := s.store.RemoveHead(ctx, request.GetHeadId()); err != nil {
		return nil, s.explain(operation, err)
	}
	return &enginev1.RemoveHeadResponse{}, nil
}

// lead refuses what only the leader can do.
func (s *Heads) lead(operation string) error {
	if s.serving() {
		return nil
	}
	return s.notLeader(operation, nil)
}

func (s *Heads) notLeader(operation string, cause error) error {
	id, address := s.store.Leader()
	if id == s.store.HeadID() {
		id, address = "", "" // It is about to serve, or about to cease.
	}
	return rpc.NewNotLeader(operation, id, address, cause)
}

// explain says of a failure that the end of leading caused that the call may be repeated.
func (s *Heads) explain(operation string, err error) error {
	if engine.KindOf(err) == engine.KindUnavailable && !s.serving() {
		return s.notLeader(operation, err)
	}
	return err
}
