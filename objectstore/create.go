package objectstore

import (
	"context"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

// Creation says what is to be created.
type Creation struct {
	// ID must not exist in the store.
	ID engine.ObjectID
	// SizeBytes is the exact length.
	SizeBytes int64
	// Domain is the security domain, a text of up to 255 bytes. Empty means DefaultDomain.
	Domain string
	// Owner is the first owner of a primary copy; a creation without one makes a cache.
	Owner engine.ObjectOwner
	// Writer names the process that will write into an arena of its own; empty is this process.
	Writer string
}

// Create reserves room for an object, and waits for it until ctx ends or, if it has no deadline, CreateTimeout has passed. The
// errors' kinds: engine.KindConflict if the id exists or is being created, engine.KindInvalidArgument if the object can never fit
// (with both sizes), engine.KindExhausted at the deadline (with who uses how much) and if the system has no memory,
// engine.KindCanceled, engine.KindUnavailable after Close.
func (s *Store) Create(ctx context.Context, creation Creation) (*Pending, error) {
	return s.create(creation, func(w *waiter) (memory, error) { return s.reserve(ctx, w) })
}

// TryCreate is Create without waiting for room: if there is none now, its error is of kind engine.KindExhausted.
func (s *Store) TryCreate(creation Creation) (*Pending, error) {
	return s.create(creation, s.tryReserve)
}

// create makes a pending object whose memory reserve finds.
func (s *Store) create(creation Creation, reserve func(*waiter) (memory, error)) (*Pending, error) {
	const op = "create object"
	if err := s.check(op, creation); err != nil {
		return nil, err
	}
	o := &object{id: creation.ID, size: creation.SizeBytes, domain: creation.Domain, inline: creation.SizeBytes <= engine.MaxInlineObjectBytes}
	if o.domain == "" {
		o.domain = DefaultDomain
	}
	p := &Pending{store: s, object: o, writer: creation.Writer}
	w := &waiter{object: o, writer: creation.Writer, op: op}
	if o.inline {
		w.inline = make([]byte, o.size)
	}

	s.lock()
	defer s.unlock()
	if s.closed {
		return nil, errClosed(op, o.id.String())
	}
	if other := s.objects[o.id]; other != nil && other.sealed {
		return nil, engine.Errorf(engine.KindConflict, op, o.id.String(), "the store has this object already")
	} else if other != nil {
		return nil, engine.Errorf(engine.KindConflict, op, o.id.String(), "the object is being written already")
	}
	s.objects[o.id] = o
	if creation.Owner != (engine.ObjectOwner{}) {
		o.primary = true
		s.owners.set(o, []engine.ObjectOwner{creation.Owner})
	}
	m, err := reserve(w)
	if err == nil && s.closed {
		s.giveBack(o.size, m)
		err = errClosed(op, o.id.String())
	}
	if err != nil {
		s.forget(o)
		return nil, err
	}
	o.memory, o.pins = m, 1
	s.pinned += o.size
	p.leak.begin(s, o.id)
	if p.writer != "" {
		if s.writers[p.writer] == nil {
			s.writers[p.writer] = map[*Pending]struct{}{}
		}
		s.writers[p.writer][p] = struct{}{}
	}
	return p, nil
}

// check refuses what can never be created.
func (s *Store) check(op string, creation Creation) error {
	id := creation.ID.String()
	switch {
	case creation.ID == engine.ObjectID{}:
		return engine.Errorf(engine.KindInvalidArgument, op, "", "the object has no id")
	case creation.SizeBytes <= 0:
		return engine.Errorf(engine.KindInvalidArgument, op, id, "an object of %d bytes", creation.SizeBytes)
	case creation.SizeBytes > s.config.CapacityBytes:
		return engine.Errorf(engine.KindInvalidArgument, op, id, "the object has %s and the store no more than %s (%d of %d bytes)",
			sizeText(creation.SizeBytes), sizeText(s.config.CapacityBytes), creation.SizeBytes, s.config.CapacityBytes)
	case len(creation.Domain) > maxDomainBytes || !utf8.ValidString(creation.Domain):
		return engine.Errorf(engine.KindInvalidArgument, op, id, "%.64q is no security domain: expected a text of up to %d bytes", creation.Domain, maxDomainBytes)
	case creation.Owner != engine.ObjectOwner{}:
		return checkOwners(op, creation.ID, []engine.ObjectOwner{creation.Owner})
	default:
		return nil
	}
}

// forget removes an object that was never sealed.
func (s *Store) forget(o *object) {
	if s.objects[o.id] == o {
		delete(s.objects, o.id)
	}
	s.owners.set(o, nil)
	s.wakeWaits(o.id)
}

// Pending is an object that is being written. Its owner ends it with Seal or Abort. It is safe for concurrent use, but nobody may touch
// the memory once Seal or Abort was called.
type Pending struct {
	// Constant.
	store  *Store
	object *object
	writer string

	// over is guarded by the store's mutex, as is all that object is.
	over bool
	leak leak
}

// Bytes is the object's memory, to be written by this process. Nil for a writer in another one, unless the object is inline.
func (p *Pending) Bytes() []byte {
	if p.writer != "" && !p.object.inline {
		return nil
	}
	return p.Memory()
}

// Memory is the object's memory, whoever writes it: the store reads what another process wrote here. Nil after Abort.
func (p *Pending) Memory() []byte {
	p.store.lock()
	defer p.store.unlock()
	if p.over {
		return nil
	}
	return p.object.memory.data
}

// Place is where another process finds the memory; ok is false for an inline object.
func (p *Pending) Place() (place Place, ok bool) {
	p.store.lock()
	defer p.store.unlock()
	if p.over || p.object.inline {
		return Place{}, false
	}
	return p.object.memory.block.place(), true
}

// Seal makes the object immutable and visible. The errors' kinds: engine.KindConflict if it was sealed or aborted before;
// engine.KindInvalidArgument for a negative count; engine.KindFenced if its owner ended in the meantime, and
// engine.KindUnavailable if the store was closed; the object is aborted then.
func (p *Pending) Seal(description Description) (Info, error) {
	p.store.lock()
	defer p.store.unlock()
	return p.store.seal(p, description)
}

// SealChecked is Seal for a caller that has computed the Castagnoli CRC-32 of the bytes in Memory, so that the store need not.
func (p *Pending) SealChecked(description Description, crc32c uint32) (Info, error) {
	p.store.lock()
	defer p.store.unlock()
	if !p.over {
		p.object.crc, p.object.checked = crc32c, true
	}
	return p.store.seal(p, description)
}

// seal makes a pending object immutable and visible, or aborts it.
func (s *Store) seal(p *Pending, description Description) (Info, error) {
	const op = "seal object"
	o := p.object
	switch {
	case p.over && o.sealed:
		return Info{}, engine.Errorf(engine.KindConflict, op, o.id.String(), "it is sealed already")
	case p.over:
		return Info{}, engine.Errorf(engine.KindConflict, op, o.id.String(), "it was aborted")
	case s.closed:
		s.abort(p)
		return Info{}, errClosed(op, o.id.String())
	case description.Rows < 0 || description.Batches < 0:
		s.abort(p)
		return Info{}, engine.Errorf(engine.KindInvalidArgument, op, o.id.String(), "it has %d rows in %d record batches", description.Rows, description.Batches)
	case o.primary && len(o.owners) == 0:
		s.abort(p)
		return Info{}, engine.Errorf(engine.KindFenced, op, o.id.String(), "its owner ended before it was sealed")
	}
	s.end(p)
	o.Description = description
	o.sealed = true
	o.created = s.config.Now()
	o.accessed = o.created
	s.changes.changed(o)
	s.wakeWaits(o.id)
	s.unpin(o)
	s.checkWater()
	return o.info(), nil
}

// Abort gives the room back. It does nothing after Seal.
func (p *Pending) Abort() {
	p.store.lock()
	defer p.store.unlock()
	if !p.over {
		p.store.abort(p)
	}
}

// abort gives up a pending object.
func (s *Store) abort(p *Pending) {
	s.end(p)
	s.forget(p.object)
	s.pinned -= p.object.size
	p.object.pins = 0
	s.free(p.object)
}

// end marks a pending object as being no longer one.
func (s *Store) end(p *Pending) {
	p.over = true
	p.leak.end()
	delete(s.writers[p.writer], p)
	if len(s.writers[p.writer]) == 0 {
		delete(s.writers, p.writer)
	}
}
