package state

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
)

// Head is one head of the cluster, as the configuration has it.
type Head struct {
	// ID was made when the head's data folder was.
	ID string
	// Address is the "host:port" where others reach it.
	Address string
	// Voter says that it has a vote. A head that is added has none until it has caught up.
	Voter bool
	// Leader says that it leads, as far as this head knows.
	Leader bool
	// State is what the leader sees of it.
	State HeadState
}

// HeadState is what the head that leads sees of a head.
type HeadState uint8

// The states of heads.
const (
	// HeadUnknown is that of every head where no head leads, or another one than the one that was asked.
	HeadUnknown HeadState = iota
	// HeadLeads is that of the leader.
	HeadLeads
	// HeadFollows is that of a head that answers the leader.
	HeadFollows
	// HeadSilent is that of a head that has not answered the leader for longer than an election takes to begin.
	HeadSilent
)

// Term is a time in which this head leads.
type Term struct {
	// Number is above that of every earlier term of the cluster.
	Number uint64
	// Lost is closed when the head leads no more.
	Lost <-chan struct{}
}

// reign is a term from inside.
type reign struct {
	// term is set by the writer before the reign takes proposals.
	term uint64
	lost chan struct{}
}

// Terms delivers each term in which this head leads, as soon as its beginning is durable and everything before it is applied. A term
// that nobody took before the next one begins is dropped. The channel is closed by Close.
func (s *Store) Terms() <-chan Term { return s.terms }

// Leader returns the id and the address of the head that leads; both are empty while this head knows of none.
func (s *Store) Leader() (headID, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader.ID, s.leader.Address
}

// LeaderChanged returns a channel that is closed when what Leader answers changes next.
func (s *Store) LeaderChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Heads returns the heads of the cluster in order of their ids, as far as this head knows: none before a head that joins is added.
func (s *Store) Heads() []Head {
	leader, _ := s.Leader()
	s.mu.Lock()
	leads := s.ruling != nil
	s.mu.Unlock()
	since := time.Now().Add(-2 * s.config.Patience)
	var heads []Head
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		id := string(server.ID)
		head := Head{ID: id, Address: fromRaft(server.Address), Voter: server.Suffrage == raft.Voter, Leader: id == leader}
		switch {
		case !leads:
		case id == s.config.HeadID:
			head.State = HeadLeads
		case s.link.followed(server.ID, since):
			head.State = HeadFollows
		default:
			head.State = HeadSilent
		}
		heads = append(heads, head)
	}
	slices.SortFunc(heads, func(a, b Head) int { return cmp.Compare(a.ID, b.ID) })
	return heads
}

func fromRaft(address raft.ServerAddress) string {
	if address == alone {
		return ""
	}
	return string(address)
}

// watch follows who leads, and begins and ends this head's own reigns.
func (s *Store) watch(ctx context.Context) error {
	var r *reign
	end := func() {
		if r == nil {
			return
		}
		s.mu.Lock()
		if s.ruling == r {
			s.ruling = nil
		}
		s.mu.Unlock()
		close(r.lost)
		r = nil
	}
	defer end()
	for {
		s.learnLeader()
		select {
		case <-ctx.Done():
			return nil
		case <-s.observed:
		case leads := <-s.notify:
			end()
			if !leads {
				s.writer.signal() // What waits is answered.
				continue
			}
			r = &reign{lost: make(chan struct{})}
			select {
			case <-s.writer.begins: // One that has been lost meanwhile.
			default:
			}
			s.writer.begins <- r
		}
	}
}

func (s *Store) learnLeader() {
	address, id := s.raft.LeaderWithID()
	leader := Head{ID: string(id), Address: fromRaft(address)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if leader != s.leader {
		s.leader = leader
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// rule makes a reign take proposals, and announces its term, unless it has been lost.
func (s *Store) rule(r *reign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-r.lost:
		return
	default:
	}
	if s.closing || s.failure != nil {
		return
	}
	s.ruling = r
	select {
	case <-s.terms:
	default:
	}
	s.terms <- Term{Number: r.term, Lost: r.lost}
}

// readdress changes this head's address in the configuration if it has another one than when it last led.
func (s *Store) readdress() error {
	self := raft.ServerID(s.config.HeadID)
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		if server.ID == self && server.Address != s.config.address() {
			return engine.WrapError("change address", s.config.HeadID, s.raft.AddVoter(self, s.config.address(), 0, 0).Error())
		}
	}
	return nil
}

// confirm makes sure that this head leads at a time after the call. Raft by itself is content with answers to what it asked before, and
// with those of heads that have no vote.
func (s *Store) confirm() error {
	began := time.Now()
	for {
		if err := s.raft.VerifyLeader().Error(); err != nil {
			return err
		}
		voters, followers := 0, 0
		for _, server := range s.raft.GetConfiguration().Configuration().Servers {
			if server.Suffrage != raft.Voter {
				continue
			}
			voters++
			if string(server.ID) == s.config.HeadID || s.link.followed(server.ID, began) {
				followers++
			}
		}
		if 2*followers > voters {
			return nil
		}
	}
}

// leads returns the present reign, or an error that names the leader.
func (s *Store) leads(operation string) (*reign, error) {
	s.mu.Lock()
	r := s.ruling
	s.mu.Unlock()
	if r == nil {
		return nil, s.notLeading(operation, nil)
	}
	return r, nil
}

// AddHead makes a head a member of the cluster, and returns when it has caught up and has a vote. It has none before, so that a head
// that cannot be reached does not stop the others: one that does not answer until ctx ends is removed again. Only the leader can:
// elsewhere it is an error of kind engine.KindUnavailable that names the leader. Adding a head that is there changes its address, or
// nothing. A head that has the address under another id is removed: its data folder is gone.
func (s *Store) AddHead(ctx context.Context, id, address string) error {
	const operation = "add head"
	if id == "" || address == "" {
		return engine.Errorf(engine.KindInvalidArgument, operation, id, "it has no id or no address")
	}
	r, err := s.leads(operation)
	if err != nil {
		return err
	}
	if id == s.config.HeadID && address != fromRaft(s.config.address()) {
		return engine.Errorf(engine.KindConflict, operation, id, "it is the head that leads, at %s", fromRaft(s.config.address()))
	}
	known := false
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		switch {
		case string(server.ID) == id && string(server.Address) == address && server.Suffrage == raft.Voter:
			return nil
		case string(server.ID) == id:
			known = true
		case string(server.Address) == address:
			if string(server.ID) == s.config.HeadID {
				return engine.Errorf(engine.KindConflict, operation, id, "%s is the leader's own address", address)
			}
			if err := s.settle(operation, s.raft.RemoveServer(server.ID, 0, 0)); err != nil {
				return err
			}
		}
	}
	s.link.forget(raft.ServerID(id))
	added := s.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, 0)
	if err := s.settle(operation, added); err != nil {
		return err
	}
	for {
		held, more := s.link.progress(raft.ServerID(id))
		if held >= added.Index() {
			break
		}
		select {
		case <-more:
		case <-r.lost:
			return s.notLeading(operation, nil)
		case <-ctx.Done():
			err := engine.Errorf(engine.KindUnavailable, operation, id, "it does not answer at %s: %w", address, context.Cause(ctx))
			if !known {
				return errors.Join(err, s.settle(operation, s.raft.RemoveServer(raft.ServerID(id), 0, 0)))
			}
			return err
		}
	}
	voter := s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, 0)
	if err := s.settle(operation, voter); err != nil {
		return err
	}
	s.spread(ctx, r, voter.Index())
	return nil
}

// spread gives all heads time to learn of a change of the configuration that a majority has. Raft needs that: a head which does not know
// that another one has a vote does not vote for it either, so that without the leader the others may elect nobody.
func (s *Store) spread(ctx context.Context, r *reign, index uint64) {
	timer := time.NewTimer(2 * s.config.Patience)
	defer timer.Stop()
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		for string(server.ID) != s.config.HeadID {
			held, more := s.link.progress(server.ID)
			if held >= index {
				break
			}
			select {
			case <-more:
			case <-r.lost:
				return
			case <-timer.C:
				return // It cannot be reached, and learns when it can.
			case <-ctx.Done():
				return
			}
		}
	}
}

// HandOver makes another head lead, if there is one that has a vote, and returns when that one leads or none can, or ctx ends. What is proposed
// meanwhile fails. At a head that does not lead, or is alone, it does nothing.
func (s *Store) HandOver(ctx context.Context) error {
	s.mu.Lock()
	leads := s.ruling != nil
	s.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(s.raft.GetConfiguration().Configuration().Servers), func(server raft.Server) bool {
		return server.Suffrage != raft.Voter || string(server.ID) == s.config.HeadID
	})
	if !leads || len(others) == 0 {
		return nil
	}
	// The first is the one that has the most of the log. It may be dead, or too slow for raft, which gives it one election's time.
	err := s.handTo(ctx, s.raft.LeadershipTransfer())
	for i := 0; err != nil && i < 2*len(others); {
		select {
		case <-time.After(s.config.Patience / 4):
		case <-ctx.Done():
			return err
		}
		other := others[i%len(others)]
		err = s.handTo(ctx, s.raft.LeadershipTransferToServer(other.ID, other.Address))
		if rpc.IsNotLeader(err) != nil {
			err = nil // An earlier attempt has come to its end.
		}
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) { // An earlier one is under way still, for as long as a call may take.
			i++
		}
	}
	return err
}

// handTo waits for an attempt to make another head lead.
func (s *Store) handTo(ctx context.Context, attempt raft.Future) error {
	handed := make(chan error, 1)
	go func() { handed <- s.settle("hand over", attempt) }() // lifecycle: raft answers within two elections, or when it is shut down.
	select {
	case err := <-handed:
		return err
	case <-ctx.Done():
		return engine.Errorf(engine.KindDeadline, "hand over", "", "%w", context.Cause(ctx))
	}
}

// settle waits for a change of the configuration.
func (s *Store) settle(operation string, future raft.Future) error {
	err := future.Error()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return s.notLeading(operation, nil)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return engine.Errorf(engine.KindUnavailable, operation, "", "%w", err)
	default:
		return engine.WrapError(operation, "", err)
	}
}
