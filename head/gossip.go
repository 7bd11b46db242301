package head

import (
	"fmt"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/internal/gossip"
)

// startGossip makes the head listen to what others say of the workers, for a term. It returns nil if it does not: nothing depends on it.
func (h *Head) startGossip(term uint64, cluster string, dispatcher *dispatch.Dispatcher) *gossip.Member {
	if h.config.Gossip == "" {
		return nil
	}
	member, err := gossip.Start(gossip.Config{
		// One that led before under the same name is dead to the others, perhaps at another address.
		Name: fmt.Sprintf("%s-%d", h.store.HeadID(), term), Cluster: cluster, Addr: h.config.Gossip, OrFree: h.config.GossipOrFree,
		Meta: []byte("head"), Keys: h.gossipKeys(), Logger: h.config.Logger,
		Events: func(name string, alive bool) { dispatcher.Suspect(engine.NodeID(name), !alive) },
	})
	if err != nil {
		h.config.Logger.Warn("the head does not gossip, so that it finds out later that a worker is gone", "error", err)
		return nil
	}
	return member
}

// Gossip is the "IP:port" at which the head gossips, or empty if it does not, as while it does not lead.
func (h *Head) Gossip() string {
	if member := h.gossip.Load(); member != nil {
		return member.Addr()
	}
	return ""
}
