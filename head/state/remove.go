package state

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
)

// RemoveHead takes a head out of the cluster, for good: it has no vote any more, whether it lives or not. Only the leader can: elsewhere it
// is an error of kind engine.KindUnavailable that names the leader. It is one of kind engine.KindConflict for the leader itself, and where
// the heads that would be left could not go on because too few of them answer: the leader asks them, and waits for that.
func (s *Store) RemoveHead(ctx context.Context, id string) error {
	const operation = "remove head"
	r, err := s.leads(operation)
	if err != nil {
		return err
	}
	for {
		configuration := s.raft.GetConfiguration()
		servers := configuration.Configuration().Servers
		if !slices.ContainsFunc(servers, func(server raft.Server) bool { return string(server.ID) == id }) {
			return engine.Errorf(engine.KindNotFound, operation, id, "the cluster has no such head").WithHint("`engine status` lists the heads")
		}
		if id == s.config.HeadID {
			return engine.Errorf(engine.KindConflict, operation, id, "it is the head that leads").
				WithHint("stop it first: one of several heads hands over before it ends")
		}
		rest := slices.DeleteFunc(slices.Clone(servers), func(server raft.Server) bool {
			return string(server.ID) == id || server.Suffrage != raft.Voter
		})
		if err := s.awaitMost(ctx, r, id, rest); err != nil {
			return err
		}
		removed := s.raft.RemoveServer(raft.ServerID(id), configuration.Index(), 0)
		if err := removed.Error(); err != nil && s.raft.GetConfiguration().Index() != configuration.Index() && s.raft.State() == raft.Leader {
			continue // Somebody else has changed it meanwhile, so another answer may be right.
		}
		if err := s.settle(operation, removed); err != nil {
			return err
		}
		s.spread(ctx, r, removed.Index())
		return nil
	}
}

// awaitMost returns when more than half of the voters that are left without a head have answered what they were asked after the call, and an
// error if they do not within the time in which they would want another leader.
func (s *Store) awaitMost(ctx context.Context, r *reign, without string, voters []raft.Server) error {
	const operation = "remove head"
	began := time.Now()
	timer := time.NewTimer(2 * s.config.Patience)
	defer timer.Stop()
	for {
		_, more := s.link.progress("")
		var silent []string
		for _, server := range voters {
			if string(server.ID) != s.config.HeadID && !s.link.followed(server.ID, began) {
				silent = append(silent, string(server.ID)+" at "+fromRaft(server.Address))
			}
		}
		if 2*(len(voters)-len(silent)) > len(voters) {
			return nil
		}
		select {
		case <-more:
		case <-timer.C:
			return engine.Errorf(engine.KindConflict, operation, without, "only %d of the %d heads that would be left answer, and more than half must: %s is silent",
				len(voters)-len(silent), len(voters), strings.Join(silent, ", ")).
				WithHint("remove a head that is dead, or start another one, first")
		case <-r.lost:
			return s.notLeading(operation, nil)
		case <-ctx.Done():
			return engine.WrapError(operation, without, context.Cause(ctx))
		}
	}
}
