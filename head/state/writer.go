package state

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Bounds of a group: how many proposals it holds, and from how many bytes on it takes no more.
const (
	maxGroup      = 4096
	maxGroupBytes = 4 << 20
	// entryOverhead is what a log needs for an entry at most, beside its data.
	entryOverhead = 128
)

// Propose makes entries durable and applies them, in order and together. When it returns nil, they survive the death of every process
// and of any machine, or of a minority of several. Entries that contradict the state are an error of kind engine.KindCorrupt: none of
// them is then made durable or applied. At a head that does not lead it is an error of kind engine.KindUnavailable that names the one
// that does (rpc.NotLeader). If ctx ends while they are being written, or the head ceases to lead then, they may or may not become
// durable; the second is of kind engine.KindUnavailable, and not rpc.NotLeader.
func (s *Store) Propose(ctx context.Context, entries ...*enginev1.LogEntry) error {
	return s.ProposeIf(ctx, nil, entries...)
}

// ProposeIf is Propose under a condition: check sees the state as of just before the entries, and its error is returned if it
// refuses them; what it saw is then durable.
func (s *Store) ProposeIf(ctx context.Context, check func(*State) error, entries ...*enginev1.LogEntry) error {
	result := make(chan error, 1)
	if err := s.enqueue(ctx, &proposal{entries: entries, check: check, done: func(err error) { result <- err }}); err != nil {
		return err
	}
	select {
	case err := <-result: // The writer answers every proposal, also when the store is closed.
		return err
	case <-ctx.Done():
		return engine.WrapError("write log", "", context.Cause(ctx))
	}
}

// ProposeAsync is Propose for callers that must not wait: it never blocks, also when it is called from done. done is called once, from
// the writer's goroutine, or from the caller's if the proposal cannot be taken; it must not block or call Propose, ProposeIf, Read, or
// Close.
func (s *Store) ProposeAsync(ctx context.Context, done func(error), entries ...*enginev1.LogEntry) {
	if err := s.enqueue(ctx, &proposal{entries: entries, done: done}); err != nil {
		done(err)
	}
}

func (s *Store) enqueue(ctx context.Context, p *proposal) error {
	if ctx.Err() != nil {
		return engine.WrapError("write log", "", context.Cause(ctx))
	}
	now := timestamppb.New(s.config.Now())
	for _, entry := range p.entries {
		entry.Time = now
	}
	s.mu.Lock()
	var err error
	switch {
	case s.failure != nil:
		err = s.failure
	case s.closing:
		err = errClosed()
	case s.ruling != nil:
		s.queue = append(s.queue, p)
		s.mu.Unlock()
		s.writer.signal()
		return nil
	}
	s.mu.Unlock()
	if err == nil {
		err = s.notLeading("write log", nil)
	}
	return err
}

// group is what becomes durable at a time.
type group struct {
	term    uint64
	entries []*enginev1.LogEntry
	// data is the LogGroup.
	data []byte
}

// writer is the one goroutine that proposes to raft: it takes what has gathered, tries it on the state ahead, hands it over as one
// entry of raft's log, and answers when that is applied. While it waits, more gathers.
type writer struct {
	store *Store
	// wake has a place for one signal: that the queue, the reign, or closing has changed.
	wake chan struct{}
	// begins has the newest reign that has not begun.
	begins chan *reign
	// ended is closed when the goroutine has ended.
	ended chan struct{}

	// The goroutine alone uses what follows.
	reign *reign
	// ahead is the state with the group that is under way: it refuses an entry before any disk has it, and readers never see it.
	ahead *State
}

func newWriter(s *Store) writer {
	return writer{store: s, wake: make(chan struct{}, 1), begins: make(chan *reign, 1), ended: make(chan struct{})}
}

// signal wakes the writer.
func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // It will look anyway.
	}
}

func (w *writer) run(context.Context) error {
	defer close(w.ended)
	s := w.store
	for {
		select {
		case r := <-w.begins:
			w.begin(r)
		case <-w.wake:
		}
		s.mu.Lock()
		gathered, closing := s.queue, s.closing
		s.queue = nil
		ruling := s.ruling
		s.mu.Unlock()
		if closing {
			// Nothing comes after these.
			answerAll(gathered, errClosed())
			return nil
		}
		if ruling == nil || ruling != w.reign {
			if len(gathered) > 0 {
				answerAll(gathered, w.refusal())
			}
			continue
		}
		for len(gathered) > 0 {
			gathered = gathered[w.commit(gathered):]
		}
	}
}

// refusal is the answer to proposals that waited when the reign ended. Nothing of them was written.
func (w *writer) refusal() error {
	if err := w.store.Err(); err != nil {
		return err
	}
	return w.store.notLeading("write log", nil)
}

func answerAll(proposals []*proposal, err error) {
	for _, p := range proposals {
		p.done(err)
	}
}

// commit makes a group of the first proposals durable, answers them, and returns how many they were. A member that cannot be written,
// that the state refuses, or whose own condition does, fails alone and leaves nothing in the log. What it was refused for is durable
// when it is answered, so that whoever looks then sees it.
func (w *writer) commit(gathered []*proposal) int {
	s := w.store
	if w.over() {
		answerAll(gathered, w.refusal())
		return len(gathered)
	}
	g := &group{term: w.reign.term}
	g.data = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), g.term)
	count := 0
	for count < len(gathered) && count < maxGroup && len(g.data) < maxGroupBytes {
		w.add(g, gathered[count])
		count++
	}
	var err error
	if len(g.entries) > 0 {
		begun := time.Now()
		if err = w.write(g); err == nil {
			s.count(len(g.entries), time.Since(begun))
		}
	} else if confirmErr := s.confirm(); confirmErr != nil {
		// What the members saw may be of the past.
		err = w.lost(confirmErr, false)
	}
	if err != nil {
		w.ahead = s.machine.clone()
	}
	for _, p := range gathered[:count] {
		if err != nil {
			p.err = err // Also for those that were refused: it was with regard to entries that may not have come about.
		}
		p.done(p.err)
	}
	return count
}

// over tells whether the reign has ended.
func (w *writer) over() bool {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.store.ruling != w.reign
}

// add tries a proposal on the state ahead, all of it or nothing, and adds it to the group.
func (w *writer) add(g *group, p *proposal) {
	if p.check != nil {
		if p.err = p.check(w.ahead); p.err != nil {
			return
		}
	}
	data := g.data
	for _, entry := range p.entries {
		if data, p.err = appendEntry(data, entry); p.err != nil {
			return
		}
	}
	for i, entry := range p.entries {
		if p.err = w.ahead.Apply(entry); p.err == nil {
			continue
		}
		if i > 0 {
			w.ahead = w.store.machine.clone()
			for _, taken := range g.entries {
				if err := w.ahead.Apply(taken); err != nil {
					panic("state: an entry was taken and then refused: " + err.Error())
				}
			}
		}
		return
	}
	g.data, g.entries = data, append(g.entries, p.entries...)
}

// appendEntry appends an entry as a field of a LogGroup.
func appendEntry(data []byte, entry *enginev1.LogEntry) ([]byte, error) {
	options := proto.MarshalOptions{}
	size := options.Size(entry)
	if size > maxRecordBytes/2 {
		return nil, engine.Errorf(engine.KindExhausted, "write log", "", "entry of %d bytes is over the limit of %d", size, maxRecordBytes/2)
	}
	data = protowire.AppendTag(data, 2, protowire.BytesType)
	data = protowire.AppendVarint(data, uint64(size)) //nolint:gosec // Bounded above.
	data, err := options.MarshalAppend(data, entry)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "write log", "", "%w", err)
	}
	return data, nil
}

// write makes a group durable and waits until it is applied.
func (w *writer) write(g *group) error {
	s := w.store
	// A full disk is found out here: raft would cease to lead.
	if err := s.folder.log.Reserve(len(g.data) + entryOverhead); err != nil {
		return err
	}
	s.machine.mine.Store(g)
	defer s.machine.mine.Store(nil)
	failpoint.Hit(failpoint.HeadWritingLog)
	future := s.raft.Apply(g.data, 0)
	if err := future.Error(); err != nil {
		return w.lost(err, true)
	}
	failpoint.Hit(failpoint.HeadLogWritten)
	switch err, _ := future.Response().(error); {
	case err == nil:
		return nil
	case errors.Is(err, errStale):
		w.depose()
		return s.notLeading("write log", nil)
	default:
		return err
	}
}

// lost makes the answer of what raft has failed at. written says that it may be in the log of some head.
func (w *writer) lost(err error, written bool) error {
	s := w.store
	if broken := s.folder.log.Err(); broken != nil {
		s.fail(broken)
	}
	if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		w.depose()
	}
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return s.notLeading("write log", nil)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		if !written {
			return s.notLeading("write log", err)
		}
		return engine.Errorf(engine.KindUnavailable, "write log", "", "this head ceased to lead meanwhile: it may or may not be recorded: %w", err)
	default:
		return engine.WrapError("write log", "", err)
	}
}

// depose ends the taking of proposals until the next reign; raft tells of the end of this one by itself.
func (w *writer) depose() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if w.store.ruling == w.reign {
		w.store.ruling = nil
	}
}

// beginAgain is the pause before a term is begun again after a failure.
const beginAgain = 100 * time.Millisecond

// begin makes the beginning of a reign durable, with everything before it applied, and announces it. It tries until the reign ends.
func (w *writer) begin(r *reign) {
	s := w.store
	w.reign = r
	var reported error
	for {
		err := w.tryBegin(r)
		if err == nil {
			return
		}
		if reported == nil || reported.Error() != err.Error() {
			reported = err
			if engine.KindOf(err) != engine.KindUnavailable {
				s.config.Trouble(engine.WrapError("begin term", s.config.Dir, err))
			}
		}
		timer := time.NewTimer(beginAgain)
		select {
		case <-timer.C:
		case <-r.lost:
			timer.Stop()
			return
		case <-s.done:
			timer.Stop()
			return
		}
	}
}

func (w *writer) tryBegin(r *reign) error {
	s := w.store
	if err := s.raft.Barrier(0).Error(); err != nil {
		return w.lost(err, false)
	}
	w.ahead = s.machine.clone()
	started := &enginev1.HeadStarted{Term: w.ahead.Term + 1}
	if w.ahead.ClusterID == "" {
		started.ClusterId = s.config.NewClusterID
	}
	entry := &enginev1.LogEntry{Time: timestamppb.New(s.config.Now()), Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: started}}
	r.term = started.GetTerm()
	g := &group{term: r.term}
	g.data = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), g.term)
	w.add(g, &proposal{entries: []*enginev1.LogEntry{entry}})
	if err := w.write(g); err != nil {
		return err
	}
	if err := s.readdress(); err != nil {
		return err
	}
	s.rule(r)
	return nil
}
