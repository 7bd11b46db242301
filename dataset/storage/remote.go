package storage

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset"
)

// remote reads an object in a bucket. What is announced is cut into pieces, which are asked for in order as long as there is memory for
// them, and given back when they have been read to their end. A piece that somebody waits for is asked for in any case.
//
//	queued --> asked for --> there --> spent --> (gone)
//
// Pieces side by side are asked for with one request, a run, as far as its bucket's pace makes that sensible.
//
// The last spent pieces are kept if they are small, because whoever has looked at the beginning of a file reads it again.
type remote struct {
	// Constant.
	storage *Storage
	bucket  blob.Bucket
	op, key string
	file    dataset.File
	pace    *pace
	ctx     context.Context //nolint:containedctx // Open's, which the input lives under: io.ReaderAt has none.
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// pieces are in the order of their offsets and do not overlap; queue has those that were not asked for, in the order in which
	// they are to be.
	pieces, queue []*piece
	held          int64 // bytes of pieces that were asked for
	// spent are the last ones that were read to their end, if they are small.
	spent  []*piece
	closed bool
}

var _ dataset.Input = (*remote)(nil)

// piece is what one request asks for.
type piece struct {
	start, end int64
	asked      bool
	// done is closed when data is there, or err.
	done chan struct{}
	data []byte
	err  error
	// read is up to where the piece has been read, users how many read it at the moment.
	read  int64
	users int
	// gone says that the piece is not among the pieces any more.
	gone bool
}

func newRemote(ctx context.Context, s *Storage, bucket blob.Bucket, op, key string, file dataset.File, pace *pace) *remote {
	r := &remote{storage: s, bucket: bucket, op: op, key: key, file: file, pace: pace}
	r.ctx, r.cancel = context.WithCancel(ctx)
	s.open.Add(1)
	for _, k := range s.known.of(r.version()) {
		p := r.insert(r.place(k.start), k.start, k.start+int64(len(k.data)))
		p.asked, p.data = true, k.data
		close(p.done)
		r.hold(p.end - p.start)
	}
	return r
}

// Expect implements dataset.Input. Ranges that lie side by side, or nearly so, are asked for together.
func (r *remote) Expect(ranges ...dataset.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 0; i < len(ranges); i++ {
		whole := ranges[i]
		for i+1 < len(ranges) && ranges[i+1].Start >= whole.End && ranges[i+1].Start-whole.End <= gapBytes {
			i++
			whole.End = ranges[i].End
		}
		r.plan(max(0, whole.Start), min(whole.End, r.file.SizeBytes))
	}
	r.pump()
}

// plan cuts what of a range is in no piece into pieces.
func (r *remote) plan(start, end int64) {
	size := int64(firstPieceBytes)
	for start < end {
		i := r.place(start)
		if i < len(r.pieces) && r.pieces[i].start <= start {
			start = r.pieces[i].end
			continue
		}
		stop := min(end, start+size)
		if i < len(r.pieces) {
			stop = min(stop, r.pieces[i].start)
		}
		r.queue = append(r.queue, r.insert(i, start, stop))
		start, size = stop, pieceBytes
	}
}

// place returns where the piece stands that holds an offset or, if there is none, the next one.
func (r *remote) place(offset int64) int {
	i, _ := slices.BinarySearchFunc(r.pieces, offset, func(p *piece, offset int64) int { return cmp.Compare(p.end, offset+1) })
	return i
}

func (r *remote) insert(i int, start, end int64) *piece {
	p := &piece{start: start, end: end, read: start, done: make(chan struct{})}
	r.pieces = slices.Insert(r.pieces, i, p)
	return p
}

// pump asks for the pieces that there is memory for.
func (r *remote) pump() {
	s := r.storage
	share := min(s.options.InputBytes, max(2*pieceBytes, s.options.BufferBytes/max(1, s.open.Load())))
	for len(r.queue) > 0 && !r.closed {
		first := r.queue[0]
		if first.asked || first.gone {
			r.queue = r.queue[1:]
			continue
		}
		room := min(share-r.held, s.options.BufferBytes-s.held.Load())
		if r.held > 0 && first.end-first.start > room {
			return
		}
		run, short := r.run(room)
		if short && r.held > share/2 {
			return // The more memory there is, the fewer requests it takes.
		}
		r.ask(run...)
	}
}

// run returns the pieces to ask for next, which lie side by side. short says that memory alone keeps the run from being longer.
func (r *remote) run(room int64) (run []*piece, short bool) {
	most := r.pace.runBytes()
	start, end := r.queue[0].start, r.queue[0].end
	run = r.queue[:1:1]
	for _, p := range r.queue[1:] {
		if p.start != end || p.asked || p.gone || p.end-start > most {
			return run, false
		}
		if p.end-start > room {
			return run, true
		}
		run, end = append(run, p), p.end
	}
	return run, false
}

func (r *remote) ask(run ...*piece) {
	for _, p := range run {
		p.asked = true
		r.hold(p.end - p.start)
	}
	r.running.Add(1)
	go r.fetch(run) // lifecycle: Close waits for it, after it has ended its context.
}

func (r *remote) hold(bytes int64) {
	r.held += bytes
	r.storage.held.Add(bytes)
}

// verify compares the object with the one that was listed.
func (r *remote) verify(info blob.Info) error {
	switch {
	case info.SizeBytes != r.file.SizeBytes:
		return Changed(r.op, r.file, "it had %d bytes and has %d", r.file.SizeBytes, info.SizeBytes)
	case r.file.ETag != "" && bareETag(info.ETag) != bareETag(r.file.ETag):
		return Changed(r.op, r.file, "its ETag was %s and is %s", r.file.ETag, info.ETag)
	case r.file.ETag == "" && info.Modified.Unix() != r.file.ModifiedUnixNanos/int64(time.Second):
		return Changed(r.op, r.file, "it was modified at %s", info.Modified.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return nil
}

// bareETag is an ETag without the quotes, which not all servers set in lists.
func bareETag(etag string) string { return strings.Trim(etag, `"`) }

// explain makes an error of the bucket one about an input.
func (r *remote) explain(err error) error {
	var known *engine.Error
	if !errors.As(err, &known) {
		return err
	}
	hint := "leave input files alone while a job runs; submit the job again to read the new content"
	switch known.Kind {
	case engine.KindNotFound:
		return engine.Errorf(engine.KindData, r.op, r.file.Path, "file vanished since the job was planned: %w", known.Err).WithHint("%s", hint)
	case engine.KindConflict: // It was replaced while it was read.
		return engine.Errorf(engine.KindData, r.op, r.file.Path, "file changed since the job was planned: %w", known.Err).WithHint("%s", hint)
	case engine.KindInvalidArgument: // A range that a shorter object does not have, or something that no other attempt will mend.
		if info, err := r.bucket.Stat(r.ctx, r.key); err == nil {
			if err := r.verify(info); err != nil {
				return err
			}
		}
	}
	return &engine.Error{Kind: known.Kind, Op: r.op, ID: r.file.Path, Hint: known.Hint, Err: known.Err}
}

// ReadAt implements io.ReaderAt.
func (r *remote) ReadAt(b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		if offset+int64(n) >= r.file.SizeBytes {
			return n, io.EOF
		}
		p := r.take(offset+int64(n), int64(len(b)-n))
		if p == nil {
			return n, engine.Errorf(engine.KindInternal, r.op, r.file.Path, "read after close")
		}
		<-p.done // Fetching ends with the context.
		if p.err != nil {
			r.leave(p, p.start)
			return n, p.err
		}
		from := offset + int64(n) - p.start
		copied := copy(b[n:], p.data[from:])
		n += copied
		r.leave(p, p.start+from+int64(copied))
	}
	return n, nil
}

// take returns the piece that holds an offset, asked for, with the caller as a user; nil after Close.
func (r *remote) take(offset, size int64) *piece {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	i := r.place(offset)
	if i == len(r.pieces) || r.pieces[i].start > offset {
		end := min(offset+min(max(size, unannouncedBytes), pieceBytes), r.file.SizeBytes)
		if i < len(r.pieces) {
			end = min(end, r.pieces[i].start)
		}
		r.insert(i, offset, end)
	}
	p := r.pieces[i]
	if !p.asked {
		r.ask(p)
	}
	p.users++
	r.pump()
	return p
}

// leave ends the use of a piece, which was read up to an offset.
func (r *remote) leave(p *piece, read int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.users--
	p.read = max(p.read, read)
	switch {
	case p.gone:
		r.free(p)
	case p.read == p.end && !slices.Contains(r.spent, p):
		r.spent = append(r.spent, p)
		var kept int64
		for i := len(r.spent) - 1; i >= 0; i-- {
			if kept += r.spent[i].end - r.spent[i].start; kept > firstPieceBytes {
				r.remove(r.spent[i])
			}
		}
		r.pump()
	}
}

// remove takes a piece out.
func (r *remote) remove(p *piece) {
	i := r.place(p.start)
	r.pieces = slices.Delete(r.pieces, i, i+1)
	p.gone = true
	r.spent = slices.DeleteFunc(r.spent, func(other *piece) bool { return other == p })
	r.free(p)
}

// free gives the memory of a piece back that is gone and that nobody uses.
func (r *remote) free(p *piece) {
	if p.users > 0 || !p.asked {
		return
	}
	p.asked = false
	r.hold(p.start - p.end)
	select {
	case <-p.done:
	default:
		return // It is being read: the memory is the garbage collector's.
	}
	if cap(p.data) == pieceBytes {
		whole := p.data[:pieceBytes]
		r.storage.spare.Put(&whole)
	}
	p.data = nil
}

// Forget implements dataset.Input. A piece that holds something else too stays.
func (r *remote) Forget(ranges ...dataset.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range ranges {
		for i := r.place(g.Start); i < len(r.pieces) && r.pieces[i].end <= g.End; {
			if r.pieces[i].start < g.Start {
				i++
				continue
			}
			r.remove(r.pieces[i])
		}
	}
	r.pump()
}

// Check implements dataset.Input: every piece has been checked when it was read.
func (r *remote) Check() error { return nil }

// Close implements dataset.Input. It ends the requests that are under way.
func (r *remote) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed, r.queue = true, nil
	r.mu.Unlock()
	if closed {
		return nil
	}
	r.cancel()
	r.running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pieces) > 0 {
		r.remove(r.pieces[len(r.pieces)-1])
	}
	r.storage.open.Add(-1)
	return nil
}
