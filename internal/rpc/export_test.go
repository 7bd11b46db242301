package rpc

import "time"

// SetWatchEvery shortens the time between looks at the leader. It must be called before the first stream is opened.
func (h *Heads) SetWatchEvery(d time.Duration) { h.watchEvery = d }
