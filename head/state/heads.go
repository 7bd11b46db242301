package state

import (
	"context"

	"github.com/f708428e/engine"
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
}

// Term is a time in which this head leads.
type Term struct {
	// Number is above that of every earlier term of the cluster.
	Number uint64
	// Lost is closed when the head leads no more.
	Lost <-chan struct{}
}

// Terms delivers each term in which this head leads, as soon as its beginning is durable and everything before it is applied. A term
// that nobody took before the next one begins is dropped. The channel is closed by Close.
func (s *Store) Terms() <-chan Term { return s.terms }

// HeadID returns the id of this head, which its data folder keeps.
func (s *Store) HeadID() string { return s.config.HeadID }

// Leader returns the id and the address of the head that leads; both are empty while this head knows of none.
func (s *Store) Leader() (headID, address string) { return s.config.HeadID, s.config.Address }

// LeaderChanged returns a channel that is closed when what Leader answers changes next.
func (s *Store) LeaderChanged() <-chan struct{} { return s.lost }

// Heads returns the heads of the cluster in order of their ids.
func (s *Store) Heads() []Head {
	return []Head{{ID: s.config.HeadID, Address: s.config.Address, Voter: true, Leader: true}}
}

// AddHead makes a head a member of the cluster, and returns when it has caught up and has a vote. Only the leader can: elsewhere it is
// an error of kind engine.KindUnavailable that names the leader. Adding a head that is there changes its address, or nothing. A head
// that has the address under another id is removed: its data folder is gone.
func (s *Store) AddHead(context.Context, string, string) error {
	return engine.Errorf(engine.KindUnavailable, "add head", "", "this head is alone")
}

// RemoveHead takes a head out of the cluster. Only the leader can.
func (s *Store) RemoveHead(context.Context, string) error {
	return engine.Errorf(engine.KindUnavailable, "remove head", "", "this head is alone")
}

// HandOver makes another head lead, if there is one that has a vote and has caught up. What is proposed meanwhile fails.
func (s *Store) HandOver(context.Context) error { return nil }
