package objectstore

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/f708428e/engine"
)

// ownerKey names an owner; when it ends is not part of its name.
type ownerKey struct {
	kind engine.OwnerKind
	id   string
}

func keyOf(o engine.ObjectOwner) ownerKey { return ownerKey{o.Kind, o.ID} }

func compareOwners(a, b engine.ObjectOwner) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

// owners knows which objects an owner holds and when references end.
type owners struct {
	held     map[ownerKey]map[*object]struct{}
	expiries expiries
}

// set replaces an object's owners. The slice becomes the object's.
func (w *owners) set(o *object, owners []engine.ObjectOwner) {
	for _, old := range o.owners {
		if _, kept := slices.BinarySearchFunc(owners, old, compareOwners); !kept {
			key := keyOf(old)
			delete(w.held[key], o)
			if len(w.held[key]) == 0 {
				delete(w.held, key)
			}
		}
	}
	o.owners = owners
	o.expires = time.Time{}
	for _, owner := range owners {
		key := keyOf(owner)
		if w.held[key] == nil {
			w.held[key] = map[*object]struct{}{}
		}
		w.held[key][o] = struct{}{}
		if !owner.Expires.IsZero() && (o.expires.IsZero() || owner.Expires.Before(o.expires)) {
			o.expires = owner.Expires
		}
	}
	w.expiries.update(o)
}

// edit returns owners with some added, or replaced if they are there, and some removed.
func edit(owners, add, remove []engine.ObjectOwner) []engine.ObjectOwner {
	edited := make([]engine.ObjectOwner, 0, len(owners)+len(add))
	for _, o := range owners {
		if !slices.ContainsFunc(remove, func(r engine.ObjectOwner) bool { return keyOf(r) == keyOf(o) }) {
			edited = append(edited, o)
		}
	}
	for _, a := range add {
		i, found := slices.BinarySearchFunc(edited, a, compareOwners)
		if found {
			edited[i] = a
		} else {
			edited = slices.Insert(edited, i, a)
		}
	}
	return edited
}

// expiries is a heap of the objects that have an owner with an end, the earliest first.
type expiries []*object

// Len, Less, Swap, Push, and Pop are those of a heap.
func (e expiries) Len() int { return len(e) }

// Less orders by the earliest end.
func (e expiries) Less(i, j int) bool { return e[i].expires.Before(e[j].expires) }

// Swap keeps the places that objects know.
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].expiry, e[j].expiry = i+1, j+1
}

// Push adds an object at the end.
func (e *expiries) Push(x any) {
	o := x.(*object) //nolint:forcetypeassert // Nothing else is pushed.
	*e = append(*e, o)
	o.expiry = len(*e)
}

// Pop removes the last one.
func (e *expiries) Pop() any {
	last := len(*e) - 1
	o := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	o.expiry = 0
	return o
}

// update puts an object where its earliest end belongs.
func (e *expiries) update(o *object) {
	switch {
	case o.expires.IsZero() && o.expiry != 0:
		heap.Remove(e, o.expiry-1)
	case o.expires.IsZero():
	case o.expiry != 0:
		heap.Fix(e, o.expiry-1)
	default:
		heap.Push(e, o)
	}
}

// Own adds and removes owners of an object; one that is there already gets the new end. A primary copy that has none left is
// deleted. The errors' kinds: engine.KindNotFound; engine.KindConflict if owners are added to a cache, which Promote does;
// engine.KindInvalidArgument for an owner without a name.
func (s *Store) Own(id engine.ObjectID, add, remove []engine.ObjectOwner) error {
	if err := checkOwners("own object", id, add); err != nil {
		return err
	}
	s.lock()
	defer s.unlock()
	o, err := s.find("own object", id)
	if err != nil {
		return err
	}
	if !o.primary {
		if len(add) > 0 {
			return engine.Errorf(engine.KindConflict, "own object", id.String(), "the copy in this store is a cache; the primary copy carries the owners")
		}
		return nil
	}
	s.setOwners(o, edit(o.owners, add, remove))
	return nil
}

// Promote makes a cache the primary copy, and adds owners to one that is. An object whose owners have all expired by then is deleted.
// The checkpoint is the URI of the object's, which the caller knows from another store; empty changes nothing.
// The errors' kinds: engine.KindNotFound; engine.KindInvalidArgument if there are no owners.
func (s *Store) Promote(id engine.ObjectID, owners []engine.ObjectOwner, checkpoint string) (Info, error) {
	if len(owners) == 0 {
		return Info{}, engine.Errorf(engine.KindInvalidArgument, "promote object", id.String(), "a primary copy needs an owner")
	}
	if err := checkOwners("promote object", id, owners); err != nil {
		return Info{}, err
	}
	s.lock()
	defer s.unlock()
	o, err := s.find("promote object", id)
	if err != nil {
		return Info{}, err
	}
	s.promote(o, owners, checkpoint)
	return o.info(), nil
}

// promote adds owners to an object and makes it the primary copy. A checkpoint that is not empty replaces its own.
func (s *Store) promote(o *object, owners []engine.ObjectOwner, checkpoint string) {
	s.unlist(o)
	o.primary = true
	s.list(o)
	if checkpoint != "" && o.checkpoint != checkpoint {
		o.checkpoint = checkpoint
		s.changes.changed(o)
	}
	s.setOwners(o, edit(o.owners, owners, nil))
	s.checkWater()
}

// EndOwner ends all references of an owner; its Expires does not matter.
func (s *Store) EndOwner(owner engine.ObjectOwner) {
	s.lock()
	defer s.unlock()
	for _, o := range s.heldBy(keyOf(owner)) {
		if o.sealed {
			s.setOwners(o, edit(o.owners, nil, []engine.ObjectOwner{owner}))
		} else {
			// Its writer still writes; Seal finds that nobody wants it.
			s.owners.set(o, edit(o.owners, nil, []engine.ObjectOwner{owner}))
		}
	}
}

// heldBy returns the objects that an owner holds, in order of their ids so that what follows does not depend on a map.
func (s *Store) heldBy(key ownerKey) []*object {
	held := make([]*object, 0, len(s.owners.held[key]))
	for o := range s.owners.held[key] {
		held = append(held, o)
	}
	slices.SortFunc(held, func(a, b *object) int { return slices.Compare(a.id[:], b.id[:]) })
	return held
}

// setOwners replaces the owners of a sealed primary copy and deletes it if there are none.
func (s *Store) setOwners(o *object, owners []engine.ObjectOwner) {
	if slices.Equal(o.owners, owners) {
		return
	}
	s.owners.set(o, owners)
	if len(owners) == 0 {
		s.delete(o)
		return
	}
	s.changes.changed(o)
}

// expire ends the references whose time has come.
func (s *Store) expire(now time.Time) {
	for len(s.owners.expiries) > 0 && !s.owners.expiries[0].expires.After(now) {
		o := s.owners.expiries[0]
		kept := slices.DeleteFunc(slices.Clone(o.owners), func(owner engine.ObjectOwner) bool {
			return !owner.Expires.IsZero() && !owner.Expires.After(now)
		})
		if o.sealed {
			s.setOwners(o, kept)
		} else {
			s.owners.set(o, kept)
		}
		// If nobody but this call noticed, the time was set forward, and the clock sleeps for too long.
		s.deadline = time.Time{}
	}
}

func checkOwners(op string, id engine.ObjectID, owners []engine.ObjectOwner) error {
	for _, o := range owners {
		if _, err := engine.ParseObjectOwner(o.String()); err != nil {
			return engine.WrapError(op, id.String(), err)
		}
	}
	return nil
}
