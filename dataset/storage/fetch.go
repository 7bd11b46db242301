package storage

import (
	"errors"
	"io"
	"time"
)

// errForgotten is the error of pieces that nobody wants any more.
var errForgotten = errors.New("forgotten")

// fetch reads the pieces of a run. Each is there as soon as its own bytes are.
func (r *remote) fetch(run []*piece) {
	defer r.running.Done()
	read, err := r.receive(run)
	for _, p := range run[read:] {
		p.err = err
		close(p.done)
	}
}

// receive returns how many pieces it has read. If nearly all of the object is asked for, it is read as a whole: servers have checksums of
// whole objects, and send them with less work.
func (r *remote) receive(run []*piece) (read int, err error) {
	start, end := run[0].start, run[len(run)-1].end
	whole := start <= gapBytes && r.file.SizeBytes-end <= gapBytes
	offset, length := start, end-start
	if whole {
		offset, length = 0, -1
	}
	began := time.Now()
	body, info, err := r.bucket.Get(r.ctx, r.key, offset, length)
	if err != nil {
		return 0, r.explain(err)
	}
	defer func() { _ = body.Close() }()
	r.pace.note(time.Since(began))
	if err := r.verify(info); err != nil {
		return 0, err
	}
	if n, err := io.CopyN(io.Discard, body, start-offset); err != nil {
		return 0, r.broken(offset+n, err)
	}
	for i, p := range run {
		if r.forgotten(run[i:]) {
			return i, errForgotten
		}
		data := r.buffer(p)
		n, err := io.ReadFull(body, data)
		if err != nil {
			return i, r.broken(p.start+int64(n), err)
		}
		if whole && p == run[len(run)-1] {
			// The checksum is compared at the end.
			if n, err := io.Copy(io.Discard, body); err != nil {
				return i, r.broken(p.end+n, err)
			}
		}
		p.data = data
		if len(data) <= knownBytes && (p.start == 0 || p.end == r.file.SizeBytes) {
			r.storage.known.add(r.version(), p.start, data)
		}
		close(p.done)
	}
	return len(run), nil
}

// broken is the error of a body that ends at an offset.
func (r *remote) broken(offset int64, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return ShortRead(r.op, r.file, offset, r.explain(err))
}

// forgotten tells whether nobody wants any of some pieces.
func (r *remote) forgotten(pieces []*piece) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range pieces {
		if !p.gone || p.users > 0 {
			return false
		}
	}
	return true
}

// buffer returns memory for a piece.
func (r *remote) buffer(p *piece) []byte {
	size := p.end - p.start
	if size > pieceBytes/2 {
		return (*r.storage.spare.Get().(*[]byte))[:size]
	}
	return make([]byte, size)
}

// version names the content of the object; it is zero if the ETag does not.
func (r *remote) version() version {
	if r.file.ETag == "" || r.file.ETag[0] == 'W' {
		return version{}
	}
	return version{bucket: r.bucket, key: r.key, etag: bareETag(r.file.ETag)}
}
