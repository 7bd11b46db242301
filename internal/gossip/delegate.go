package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// events is a Member as memberlist sees it, which calls with its lock held: what is heard is kept for tell.
type events Member

// NotifyJoin implements memberlist.EventDelegate.
func (e *events) NotifyJoin(n *memberlist.Node) {
	// A copy: memberlist changes its own at any time.
	e.keep(Peer{Name: n.Name, Addr: n.Address(), Meta: bytes.Clone(n.Meta)}, true)
}

// NotifyLeave implements memberlist.EventDelegate.
func (e *events) NotifyLeave(n *memberlist.Node) { e.keep(Peer{Name: n.Name}, false) }

// NotifyUpdate implements memberlist.EventDelegate. No member changes what it says of itself.
func (e *events) NotifyUpdate(*memberlist.Node) {}

func (e *events) keep(peer Peer, alive bool) {
	if peer.Name == e.config.Name {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if alive {
		e.peers[peer.Name] = peer
	} else {
		delete(e.peers, peer.Name)
	}
	if e.config.Events == nil {
		return
	}
	if _, waits := e.alive[peer.Name]; !waits {
		e.changed = append(e.changed, peer.Name)
	}
	e.alive[peer.Name] = alive
	signal(e.news)
}

// meta is what a member says of itself; it says nothing else, and takes no notice of what others say.
type meta []byte

// NodeMeta implements memberlist.Delegate.
func (m meta) NodeMeta(int) []byte { return m }

// NotifyMsg implements memberlist.Delegate.
func (meta) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (meta) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (meta) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (meta) MergeRemoteState([]byte, bool) {}

// logWriter passes on what memberlist has to say. All of it is for those who debug: that somebody does not answer is no error here. But for what
// was refused because it was not encrypted as it should be, which whoever runs the cluster wants to know.
type logWriter struct {
	logger *slog.Logger
	// refused is when the last refusal was logged, in nanoseconds since 1970: strangers must not fill a disk.
	refused atomic.Int64
}

// refusalsEvery is how often a refusal is logged at most.
const refusalsEvery = time.Second

// Write implements io.Writer. Each call is a line such as "[WARN] memberlist: what".
func (w *logWriter) Write(line []byte) (int, error) {
	ctx := context.Background()
	// memberlist writes so of what it could not decrypt, and of what was not encrypted at all.
	refused := bytes.Contains(line, []byte("crypt"))
	if !refused && !w.logger.Enabled(ctx, slog.LevelDebug) {
		return len(line), nil
	}
	text := bytes.TrimSpace(line)
	if _, what, found := bytes.Cut(text, []byte("memberlist: ")); found {
		text = what
	}
	last, now := w.refused.Load(), time.Now().UnixNano()
	if refused && time.Duration(now-last) >= refusalsEvery && w.refused.CompareAndSwap(last, now) {
		w.logger.WarnContext(ctx, "a message was refused", "link", "gossip", "reason", "not encrypted by a key of this cluster", "line", string(text))
		return len(line), nil
	}
	w.logger.DebugContext(ctx, "the gossip says", "line", string(text))
	return len(line), nil
}
