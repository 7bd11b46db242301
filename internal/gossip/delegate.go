package gossip

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/hashicorp/memberlist"
)

// events is a Member as memberlist sees it, which calls with its lock held: what is heard is kept for tell.
type events Member

// NotifyJoin implements memberlist.EventDelegate.
func (e *events) NotifyJoin(n *memberlist.Node) { e.keep(n.Name, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (e *events) NotifyLeave(n *memberlist.Node) { e.keep(n.Name, false) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e *events) NotifyUpdate(*memberlist.Node) {}

func (e *events) keep(name string, alive bool) {
	if name == e.config.Name || e.config.Events == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, waits := e.alive[name]; !waits {
		e.changed = append(e.changed, name)
	}
	e.alive[name] = alive
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

// logWriter passes on what memberlist has to say. All of it is for those who debug: that somebody does not answer is no error here.
type logWriter struct{ logger *slog.Logger }

// Write implements io.Writer. Each call is a line such as "[WARN] memberlist: what".
func (w *logWriter) Write(line []byte) (int, error) {
	if w.logger.Enabled(context.Background(), slog.LevelDebug) {
		text := bytes.TrimSpace(line)
		if _, what, found := bytes.Cut(text, []byte("memberlist: ")); found {
			text = what
		}
		w.logger.Debug("the gossip says", "line", string(text))
	}
	return len(line), nil
}
