package objectstore

import (
	"context"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/table"
)

// Checkpoint writes an object as <id>.arrows into a folder, which may be s3://bucket/prefix, and returns its URI when it is
// durable and has been read back and compared; it blocks for that. An equal checkpoint that is there already is adopted, and a
// damaged one replaced. The errors' kinds: engine.KindNotFound; engine.KindConflict if the folder has another content under the
// object's id; those of Get and of the bucket.
func (s *Store) Checkpoint(ctx context.Context, id engine.ObjectID, folder string) (uri string, err error) {
	h, err := s.Get(ctx, id)
	if err != nil {
		return "", err
	}
	defer h.Release()
	err = s.withFolder(ctx, folder, func(bucket blob.Bucket) error {
		uri = spill.URI(bucket, spill.Name(id))
		return writeCheckpoint(ctx, bucket, h.Bytes(), s.trailer(h.object))
	})
	if err != nil {
		return "", engine.WrapError("checkpoint object", id.String(), err)
	}
	s.lock()
	defer s.unlock()
	if o := h.object; !o.deleted {
		o.checkpoint = uri
		s.changes.changed(o)
	}
	return uri, nil
}

// writeCheckpoint stores an object unless it is there.
func writeCheckpoint(ctx context.Context, bucket blob.Bucket, data []byte, trailer spill.Trailer) error {
	key := spill.Name(trailer.ID)
	err := checkCheckpoint(ctx, bucket, key, trailer)
	switch engine.KindOf(err) {
	case engine.KindNotFound:
		err = spill.Write(ctx, bucket, key, data, trailer, true)
		if engine.KindOf(err) == engine.KindConflict {
			// Somebody else wrote it in the meantime.
			err = checkCheckpoint(ctx, bucket, key, trailer)
		}
	case engine.KindCorrupt:
		err = spill.Write(ctx, bucket, key, data, trailer, false)
	default:
	}
	return err
}

// checkCheckpoint returns nil if there is an equal checkpoint.
func checkCheckpoint(ctx context.Context, bucket blob.Bucket, key string, want spill.Trailer) error {
	found, err := spill.ReadTrailer(ctx, bucket, key)
	if err != nil {
		return err
	}
	if found != want {
		return engine.Errorf(engine.KindConflict, "check checkpoint", spill.URI(bucket, key),
			"it has other content: %d bytes, %d rows, checksum %08x; the object has %d bytes, %d rows, checksum %08x",
			found.SizeBytes, found.Rows, found.CRC32C, want.SizeBytes, want.Rows, want.CRC32C).
			WithHint("delete it, or write the checkpoint into another folder")
	}
	return spill.Verify(ctx, bucket, key, want)
}

// Restore makes an object of a checkpoint, under the id that it says; it blocks while it is read, and follows Create in how it
// finds room. If the store has the object, the owners are added to it. Without owners it is a cache. An empty domain is
// DefaultDomain; an object that is there keeps its own. The errors' kinds: engine.KindNotFound; engine.KindCorrupt if the file is damaged or is no Arrow stream; those of
// Create and of the bucket.
func (s *Store) Restore(ctx context.Context, uri, domain string, owners []engine.ObjectOwner) (Info, error) {
	const op = "restore object"
	if err := checkOwners(op, engine.ObjectID{}, owners); err != nil {
		return Info{}, err
	}
	var info Info
	err := s.withFile(ctx, uri, func(bucket blob.Bucket, key string) error {
		trailer, err := spill.ReadTrailer(ctx, bucket, key)
		if err != nil {
			return err
		}
		for {
			info, err = s.adopt(trailer.ID, owners)
			if engine.KindOf(err) == engine.KindNotFound {
				info, err = s.restoreFrom(ctx, bucket, key, trailer, uri, domain, owners)
			}
			if engine.KindOf(err) != engine.KindConflict {
				return err
			}
			// Somebody else writes it: see what comes of that.
			if err := s.awaitWriter(ctx, trailer.ID); err != nil {
				return err
			}
		}
	})
	return info, engine.WrapError(op, uri, err)
}

// adopt adds owners to an object that is there.
func (s *Store) adopt(id engine.ObjectID, owners []engine.ObjectOwner) (Info, error) {
	s.lock()
	defer s.unlock()
	o, err := s.find("restore object", id)
	if err != nil {
		return Info{}, err
	}
	if len(owners) > 0 {
		s.promote(o, owners, "")
	}
	return o.info(), nil
}

// restoreFrom creates an object and fills it from a file.
func (s *Store) restoreFrom(ctx context.Context, bucket blob.Bucket, key string, trailer spill.Trailer, uri, domain string, owners []engine.ObjectOwner) (Info, error) {
	creation := Creation{ID: trailer.ID, SizeBytes: trailer.SizeBytes, Domain: domain}
	if len(owners) > 0 {
		creation.Owner = owners[0]
	}
	p, err := s.Create(ctx, creation)
	if err != nil {
		return Info{}, err
	}
	defer p.Abort()
	data := p.Memory()
	if err := tryAgain(ctx, func() error { return spill.Read(ctx, bucket, key, data, trailer) }); err != nil {
		return Info{}, err
	}
	// A checksum finds what was damaged, not what was made with bad intent, and readers in this cluster trust what is in its stores.
	t, err := table.Open(data, table.Options{})
	if err != nil {
		return Info{}, err
	}
	rows, batches := t.Rows(), int64(len(t.Records()))
	t.Release()
	if rows != trailer.Rows || batches != trailer.Batches {
		return Info{}, engine.Errorf(engine.KindCorrupt, "", "", "it has %d rows in %d record batches, its trailer says %d in %d", rows, batches, trailer.Rows, trailer.Batches)
	}
	s.lock()
	defer s.unlock()
	o := p.object
	if len(owners) > 1 && len(o.owners) > 0 {
		s.owners.set(o, edit(o.owners, owners[1:], nil))
	}
	o.crc, o.checked, o.checkpoint = trailer.CRC32C, true, uri
	return s.seal(p, Description{Rows: rows, Batches: batches})
}

// awaitWriter returns when an object is not being written any more.
func (s *Store) awaitWriter(ctx context.Context, id engine.ObjectID) error {
	s.lock()
	o := s.objects[id]
	if o == nil || o.sealed {
		s.unlock()
		return nil
	}
	wait := &sealWait{missing: 1, enough: make(chan struct{})}
	s.waits[id] = append(slices.Clone(s.waits[id]), wait)
	s.unlock()
	select {
	case <-wait.enough:
		return nil
	case <-s.group.Done():
		return errClosed("restore object", id.String())
	case <-ctx.Done():
		s.lock()
		s.forgetWait(id, wait)
		s.unlock()
		return engine.WrapError("restore object", id.String(), ctx.Err())
	}
}
