package state

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config says where the state lives.
type Config struct {
	// Dir is the folder, made if it does not exist. Required.
	Dir string
	// NewClusterID names the cluster of a new folder. Required.
	NewClusterID string
	// CompactAboveBytes is the log's size from which it is rewritten as a snapshot. Zero means 64 MiB.
	CompactAboveBytes int64
	// Trouble hears of failures that no caller does: a log that could not be compacted. Nil means that nobody does.
	Trouble func(error)
	// Now tells the time that entries carry. Nil means time.Now.
	Now func() time.Time
	// HeadID names this head. Empty means the one that Dir holds, which is made once.
	HeadID string
	// Address is the "host:port" at which the other heads reach this one.
	Address string
	// Transport carries raft's messages between heads; Close closes it if it can be closed. Nil means that this head is alone.
	Transport raft.Transport
	// Join says that a new folder begins no cluster: another head adds this one to its own. NewClusterID is then not used.
	Join bool
	// Logger hears of elections and of trouble between heads. Nil means that nobody does.
	Logger *slog.Logger
}

// Store makes entries durable and applies them. What the state refuses is never made durable. It is safe for concurrent use.
type Store struct {
	config Config
	lock   *os.File
	once   sync.Once

	// queue holds the proposals that wait for the writer. It has no limit, so that proposing never blocks.
	queueMu sync.Mutex
	queue   []*proposal
	closing bool
	// wake has a place for one signal: that the queue or closing has changed.
	wake   chan struct{}
	closed chan struct{}

	// state is what is durable; only the writer changes it.
	mu    sync.RWMutex
	state *State

	terms chan Term
	lost  chan struct{}

	// Set by Open and never changed.
	tornBytes      int64
	refusedEntries int

	// The writer goroutine alone uses what follows.
	//
	// ahead is the state with the group that is being written: it refuses an entry before the disk has it, and readers never see it.
	ahead       *State
	file        *os.File
	sizeBytes   int64
	compactedAt int64
	failed      error
	closeErr    error
	writeBuffer []byte
}

// proposal is a group of entries that become durable together, or not at all.
type proposal struct {
	entries []*enginev1.LogEntry
	check   func(*State) error
	done    func(error)
	// err is the answer that done is to have; the writer's.
	err error
}

// maxGroup is how many proposals are written with one sync at most; it bounds the buffer.
const maxGroup = 1024

// Open reads the state in config.Dir, begins a new term, and takes the folder for itself: a second Open of the same folder fails
// with kind engine.KindConflict until Close.
func Open(config Config) (*Store, error) {
	if config.CompactAboveBytes == 0 {
		config.CompactAboveBytes = 64 << 20
	}
	if config.Trouble == nil {
		config.Trouble = func(error) {}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, storageError("make data folder", config.Dir, err)
	}
	lock, err := lockDir(config.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		config: config, lock: lock, state: New(),
		wake: make(chan struct{}, 1), closed: make(chan struct{}), terms: make(chan Term, 1), lost: make(chan struct{}),
	}
	s.file, s.sizeBytes, s.tornBytes, err = openLog(config.Dir, s.replayed)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.ahead = s.state.clone()
	s.compactedAt = min(s.sizeBytes, config.CompactAboveBytes)
	go s.write() // lifecycle: Close ends it and waits.
	started := &enginev1.HeadStarted{Term: s.state.Term + 1}
	if s.state.ClusterID == "" {
		started.ClusterId = config.NewClusterID
	}
	if err := s.Propose(context.Background(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: started}}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.terms <- Term{Number: started.GetTerm(), Lost: s.lost}
	return s, nil
}

// replayed applies an entry of the log that is being opened. Earlier versions wrote an entry before the state had looked at it: what
// it refused then, it refuses now, and then as now that changes nothing. A snapshot was never refused, and an entry without a fact
// is one of a kind that this version does not know: without them the state would be another one.
func (s *Store) replayed(entry *enginev1.LogEntry) error {
	err := s.state.Apply(entry)
	if err == nil || entry.GetFact() == nil || entry.GetSnapshot() != nil {
		return err
	}
	s.refusedEntries++
	return nil
}

func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, storageError("lock data folder", dir, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closeErr := lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, engine.Errorf(engine.KindConflict, "lock data folder", dir, "another head uses it").
				WithHint("stop that one with `engine stop --data-dir %s`, or give another --data-dir", dir)
		}
		return nil, errors.Join(storageError("lock data folder", dir, err), closeErr)
	}
	return lock, nil
}

// TornBytes is how many bytes of an unfinished record Open cut off.
func (s *Store) TornBytes() int64 { return s.tornBytes }

// RefusedEntries is how many entries Open skipped because they contradict the state. This version never writes such entries; earlier
// ones did, and told the caller that the entry was refused.
func (s *Store) RefusedEntries() int { return s.refusedEntries }

// View calls look with the present state, which look must not change or keep; jobs' messages may be kept.
func (s *Store) View(look func(*State)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	look(s.state)
}

// Propose makes entries durable and applies them, in order and together. When it returns nil, they survive the death of the
// process and of the machine. Entries that contradict the state are an error of kind engine.KindCorrupt: none of them is then made
// durable or applied. If ctx ends while they are being written, they may or may not become durable.
func (s *Store) Propose(ctx context.Context, entries ...*enginev1.LogEntry) error {
	return s.ProposeIf(ctx, nil, entries...)
}

// ProposeIf is Propose under a condition: check sees the state as of just before the entries, and its error is returned if it
// refuses them.
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
// the writer's goroutine, or from the caller's if ctx has ended or the store is closed; it must not block or call Propose, ProposeIf,
// or Close.
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
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		return errClosed()
	}
	s.queue = append(s.queue, p)
	s.queueMu.Unlock()
	s.signal()
	return nil
}

// signal wakes the writer.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // It will look anyway.
	}
}

func errClosed() error {
	return engine.Errorf(engine.KindUnavailable, "write log", "", "the head is stopping")
}

// write is the one goroutine that owns the log. It takes what has gathered, writes it, syncs once, applies it, and answers.
func (s *Store) write() {
	defer close(s.closed)
	for range s.wake {
		s.queueMu.Lock()
		gathered, closing := s.queue, s.closing
		s.queue = nil
		s.queueMu.Unlock()
		if closing {
			// Nothing comes after these.
			for _, p := range gathered {
				p.done(errClosed())
			}
			return
		}
		s.writeAll(gathered)
	}
}

func (s *Store) writeAll(gathered []*proposal) {
	for start := 0; start < len(gathered); {
		// A conditional proposal must see what comes before it applied, so it begins a group of its own.
		end := start + 1
		for end < len(gathered) && end-start < maxGroup && gathered[end].check == nil {
			end++
		}
		s.commit(gathered[start:end])
		start = end
	}
	if s.failed == nil && s.sizeBytes > s.config.CompactAboveBytes && s.sizeBytes > 2*s.compactedAt {
		s.compact()
	}
}

// commit makes one group durable, applies it, and answers each member. Only the first may have a condition. A member that cannot be
// written or that the state refuses fails alone and leaves nothing in the log.
func (s *Store) commit(group []*proposal) {
	if check := group[0].check; check != nil {
		s.mu.RLock()
		err := check(s.state)
		s.mu.RUnlock()
		if err != nil {
			group[0].done(err)
			group = group[1:]
		}
	}
	if err := s.commitUnconditional(group); err != nil {
		// Also for those that were refused: it was with regard to entries that have not come about.
		for _, p := range group {
			p.err = err
		}
	}
	for _, p := range group {
		p.done(p.err)
	}
}

// commitUnconditional is commit without condition and answers. An error concerns the whole group: nothing of it is durable or applied.
func (s *Store) commitUnconditional(group []*proposal) error {
	if s.failed != nil {
		return s.failed
	}
	buffer := s.writeBuffer[:0]
	for i, p := range group {
		var longer []byte
		if longer, p.err = appendRecords(buffer, p.entries); p.err != nil {
			continue
		}
		if p.err = s.tryAhead(p.entries, group[:i]); p.err == nil {
			buffer = longer
		}
	}
	if s.writeBuffer = buffer; cap(buffer) > 4<<20 {
		s.writeBuffer = nil
	}
	if err := s.persist(buffer); err != nil {
		s.ahead = s.state.clone()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	applyTaken(s.state, group)
	return nil
}

// tryAhead applies a proposal's entries to the state ahead, all or none. before are the members of the group that come before it.
func (s *Store) tryAhead(entries []*enginev1.LogEntry, before []*proposal) error {
	for i, entry := range entries {
		if err := s.ahead.Apply(entry); err != nil {
			if i > 0 {
				s.ahead = s.state.clone()
				applyTaken(s.ahead, before)
			}
			return err
		}
	}
	return nil
}

// applyTaken applies the proposals of a group that the state ahead has taken, which cannot fail.
func applyTaken(state *State, group []*proposal) {
	for _, p := range group {
		if p.err != nil {
			continue
		}
		for _, entry := range p.entries {
			if err := state.Apply(entry); err != nil {
				panic("state: an entry was taken and then refused: " + err.Error())
			}
		}
	}
}

// persist appends records and syncs. After a failure that may have left a part of a record behind, the log is cut back; if even that
// fails, every further write fails with the first error.
func (s *Store) persist(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	_, err := s.file.Write(records)
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		s.sizeBytes += int64(len(records))
		return nil
	}
	err = storageError("write log", s.file.Name(), err)
	// After a failed sync the kernel may have dropped the pages: what is on the disk is unknown until it is cut back.
	_, seekErr := s.file.Seek(s.sizeBytes, 0)
	if repairErr := errors.Join(s.file.Truncate(s.sizeBytes), seekErr, s.file.Sync()); repairErr != nil {
		s.failed = errors.Join(err, repairErr)
	}
	return err
}

// compact replaces the log by a snapshot. A failure leaves the old log in use, or, if the new one had taken its name already, fails
// every further write.
func (s *Store) compact() {
	s.mu.RLock()
	entry := &enginev1.LogEntry{
		Time: timestamppb.New(s.config.Now()),
		Fact: &enginev1.LogEntry_Snapshot{Snapshot: s.state.Snapshot()},
	}
	s.mu.RUnlock()
	file, sizeBytes, err := writeCompacted(s.config.Dir, entry)
	if err != nil {
		s.config.Trouble(err)
	}
	if file == nil {
		s.compactedAt = s.sizeBytes // Try again when it has doubled.
		return
	}
	// If err is not nil, nobody knows which of the two files a crash of the machine leaves: what is durable is in both as long as
	// nothing is added.
	s.failed = err
	old := s.file
	s.file, s.sizeBytes, s.compactedAt = file, sizeBytes, sizeBytes
	s.closeErr = errors.Join(s.closeErr, old.Close())
}

// Close ends the store. Proposals that are waiting fail with kind engine.KindUnavailable. It may be called more than once.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.queueMu.Lock()
		s.closing = true
		s.queueMu.Unlock()
		s.signal()
		<-s.closed
		close(s.lost)
		close(s.terms)
		err = errors.Join(s.closeErr, s.file.Close(), s.lock.Close())
	})
	return err
}
