package client

import (
	"context"
	"time"

	"github.com/f708428e/engine/internal/hostid"
)

// NearStore and FarStore are what a client asks of stores.
type (
	NearStore = nearStore
	FarStore  = farStore
)

// ReplaceStores makes the client believe that it runs on a host, and dial stores by near and far.
func (c *Client) ReplaceStores(host string, near func(ctx context.Context, socket string) (NearStore, error), far func(ctx context.Context, address string) (FarStore, error)) {
	c.objects.host, c.objects.dialNear, c.objects.dialFar = host, near, far
}

// UseStores undoes ReplaceStores.
func (c *Client) UseStores() {
	c.objects.host, c.objects.dialNear, c.objects.dialFar = hostid.ID(), c.objects.openNear, c.objects.openFar
}

// PretendHost makes the client believe that it runs on another host than it does.
func (c *Client) PretendHost(host string) { c.objects.host = host }

// AgeStores makes what the client knows of stores old.
func (c *Client) AgeStores() {
	if last := c.objects.found.Load(); last != nil {
		aged := *last
		aged.at = aged.at.Add(-time.Hour)
		c.objects.found.Store(&aged)
	}
}

// SessionID is the id of the client's session.
func (c *Client) SessionID() string { return c.objects.session.id() }

// RecentTasks is how many tasks that have ended are remembered.
func (c *Client) RecentTasks() int {
	c.tasks.mu.Lock()
	defer c.tasks.mu.Unlock()
	return len(c.tasks.recent.byID)
}
