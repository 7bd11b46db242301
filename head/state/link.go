package state

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// link is a transport between raft and the one that carries its messages. It can tell this head to stand for election at once, and
// knows how far other heads have come.
type link struct {
	raft.Transport
	// in is what raft hears: the transport's requests and ours.
	in chan raft.RPC

	mu sync.Mutex
	// answers are the last ones of other heads, by their ids.
	answers map[raft.ServerID]answer
	// heard is closed and replaced when answers change.
	heard chan struct{}
}

// answer says what another head thought when it last took this one for its leader.
type answer struct {
	// asked is when the request was sent that it answered.
	asked time.Time
	// held is the last index of its log.
	held uint64
}

func newLink(transport raft.Transport) *link {
	return &link{Transport: transport, in: make(chan raft.RPC), answers: map[raft.ServerID]answer{}, heard: make(chan struct{})}
}

// run hands requests on until done is closed.
func (l *link) run(done <-chan struct{}) {
	for {
		select {
		case request := <-l.Transport.Consumer():
			select {
			case l.in <- request:
			case <-done:
				return // The other head hears nothing, as if this one had stopped before.
			}
		case <-done:
			return
		}
	}
}

// elect makes this head stand for election without waiting for a leader that it has never heard of.
func (l *link) elect(self raft.Server, done <-chan struct{}) {
	request := raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self.ID), Addr: []byte(self.Address),
		}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	select {
	case l.in <- request:
	case <-done:
	}
}

// Consumer implements raft.Transport.
func (l *link) Consumer() <-chan raft.RPC { return l.in }

// AppendEntries implements raft.Transport.
func (l *link) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	asked := time.Now()
	if err := l.Transport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Success {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers[id] = answer{asked, resp.LastLog}
		close(l.heard)
		l.heard = make(chan struct{})
	}
	return nil
}

// progress returns the last index that a head holds as far as is known, and a channel that is closed when more is.
func (l *link) progress(id raft.ServerID) (index uint64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[id].held, l.heard
}

// followed reports whether a head took this one for its leader at a request that was sent at or after a time.
func (l *link) followed(id raft.ServerID, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.answers[id].asked.Before(since)
}

// forget drops what is known of a head.
func (l *link) forget(id raft.ServerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.answers, id)
}

// RequestPreVote implements raft.WithPreVote. It is called only if the transport can do it.
func (l *link) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	preVote, ok := l.Transport.(raft.WithPreVote)
	if !ok {
		return errors.New("the transport carries no pre-votes")
	}
	return preVote.RequestPreVote(id, target, args, resp)
}

// Close implements raft.WithClose.
func (l *link) Close() error {
	if closer, ok := l.Transport.(raft.WithClose); ok {
		return closer.Close()
	}
	return nil
}
