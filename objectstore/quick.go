package objectstore

import "github.com/f708428e/engine"

// What package local needs in order to answer quick calls where it reads them, without a goroutine for each.

// Resident returns a handle of an object that is in memory now, as Get does; ok is false for any other. It never waits.
func (s *Store) Resident(id engine.ObjectID) (handle *Handle, ok bool) { return nil, false }

// TryCreate is Create without waiting: if there is no room now, its error is of kind engine.KindExhausted.
func (s *Store) TryCreate(creation Creation) (*Pending, error) {
	return nil, engine.Errorf(engine.KindExhausted, "create object", creation.ID.String(), "no room now")
}

// OnRetire calls retired with the number of each arena that is given back to the system, from now on until stop is called. retired must
// neither block nor call the store.
func (s *Store) OnRetire(retired func(arena uint64)) (stop func()) { return func() {} }
