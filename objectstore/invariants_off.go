//go:build !invariants

package objectstore

import "github.com/f708428e/engine"

// leak finds handles that are never released, in builds with the tag invariants.
type leak struct{}

func (*leak) begin(*Store, engine.ObjectID) {}
func (*leak) end()                          {}

// poison makes the use of memory after its end visible, in builds with the tag invariants.
func poison([]byte) {}

// Leaks returns where the handles and pending objects that are open were made. It is always empty in builds without the tag invariants.
func (s *Store) Leaks() []string { return nil }
