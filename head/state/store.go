package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

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
	// Trouble hears of failures that cost nothing yet: a log that could not be compacted. Nil means that nobody does.
	Trouble func(error)
	// Now tells the time that entries carry. Nil means time.Now.
	Now func() time.Time
}

// Store makes entries durable and applies them. It is safe for concurrent use.
type Store struct {
	config   Config
	lock     *os.File
	proposes chan *proposal
	closing  chan struct{}
	closed   chan struct{}
	once     sync.Once

	mu    sync.RWMutex
	state *State

	// The writer goroutine alone uses what follows.
	file         *os.File
	sizeBytes    int64
	compactedAt  int64
	failed       error
	closeErr     error
	tornBytes    int64
	writeBuffer  []byte
	pendingGroup []*proposal
}

// proposal is a group of entries that become durable together.
type proposal struct {
	entries []*enginev1.LogEntry
	check   func(*State) error
	done    func(error)
}

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
		proposes: make(chan *proposal, 1024), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	s.file, s.sizeBytes, s.tornBytes, err = openLog(config.Dir, s.state.Apply)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.compactedAt = min(s.sizeBytes, config.CompactAboveBytes)
	go s.write() // lifecycle: Close ends it and waits.
	started := &enginev1.HeadStarted{Term: s.state.Term + 1}
	if s.state.ClusterID == "" {
		started.ClusterId = config.NewClusterID
	}
	if err := s.Propose(context.Background(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: started}}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
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

// View calls look with the present state, which look must not change or keep; jobs' messages may be kept.
func (s *Store) View(look func(*State)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	look(s.state)
}

// Propose makes entries durable and applies them, in order and together. When it returns nil, they survive the death of the
// process and of the machine. If ctx ends first, they may or may not become durable.
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
	case err := <-result:
		return err
	case <-ctx.Done():
		return engine.WrapError("write log", "", context.Cause(ctx))
	case <-s.closed:
		select {
		case err := <-result:
			return err
		default:
			return errClosed()
		}
	}
}

// ProposeAsync is Propose for callers that must not wait: done is called from another goroutine, and must not block.
func (s *Store) ProposeAsync(ctx context.Context, done func(error), entries ...*enginev1.LogEntry) {
	if err := s.enqueue(ctx, &proposal{entries: entries, done: done}); err != nil {
		done(err)
	}
}

func (s *Store) enqueue(ctx context.Context, p *proposal) error {
	now := timestamppb.New(s.config.Now())
	for _, entry := range p.entries {
		entry.Time = now
	}
	select {
	case <-s.closing:
		return errClosed()
	default:
	}
	select {
	case s.proposes <- p:
		return nil
	case <-s.closing:
		return errClosed()
	case <-ctx.Done():
		return engine.WrapError("write log", "", context.Cause(ctx))
	}
}

func errClosed() error {
	return engine.Errorf(engine.KindUnavailable, "write log", "", "the head is stopping")
}

// write is the one goroutine that owns the log. It takes what has gathered, writes it, syncs once, applies it, and answers.
func (s *Store) write() {
	defer close(s.closed)
	for {
		select {
		case first := <-s.proposes:
			s.writeGroup(first)
		case <-s.closing:
			for {
				select {
				case late := <-s.proposes:
					late.done(errClosed())
				default:
					return
				}
			}
		}
	}
}

func (s *Store) writeGroup(first *proposal) {
	group := s.pendingGroup[:0]
	group = append(group, first)
	for len(group) < cap(s.proposes) {
		select {
		case p := <-s.proposes:
			group = append(group, p)
			continue
		default:
		}
		break
	}
	s.pendingGroup = group
	// A conditional proposal must see what comes before it applied, so it begins a group of its own.
	for start := 0; start < len(group); {
		end := start + 1
		for end < len(group) && group[end].check == nil {
			end++
		}
		s.commit(group[start:end])
		start = end
	}
	clear(group)
	if s.failed == nil && s.sizeBytes > s.config.CompactAboveBytes && s.sizeBytes > 2*s.compactedAt {
		s.compact()
	}
}

// commit makes one group durable. Only its first member may have a condition.
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
	err := s.persist(group)
	if err == nil {
		s.mu.Lock()
		for _, p := range group {
			for _, entry := range p.entries {
				// The entry is durable: a contradiction now is one that a restart would find too.
				err = errors.Join(err, s.state.Apply(entry))
			}
		}
		s.mu.Unlock()
	}
	for _, p := range group {
		p.done(err)
	}
}

// persist appends the group's records and syncs. After a failure that may have left a part of a record behind, the log is cut
// back; if even that fails, every further write fails with the first error.
func (s *Store) persist(group []*proposal) error {
	if s.failed != nil {
		return s.failed
	}
	buffer := s.writeBuffer[:0]
	var err error
	for _, p := range group {
		for _, entry := range p.entries {
			if buffer, err = appendRecord(buffer, entry); err != nil {
				return err
			}
		}
	}
	if len(buffer) == 0 {
		return nil
	}
	if s.writeBuffer = buffer; cap(buffer) > 4<<20 {
		s.writeBuffer = nil
	}
	_, err = s.file.Write(buffer)
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		s.sizeBytes += int64(len(buffer))
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

// compact replaces the log by a snapshot. A failure leaves the old log in use.
func (s *Store) compact() {
	s.mu.RLock()
	entry := &enginev1.LogEntry{
		Time: timestamppb.New(s.config.Now()),
		Fact: &enginev1.LogEntry_Snapshot{Snapshot: s.state.Snapshot()},
	}
	s.mu.RUnlock()
	file, sizeBytes, err := writeCompacted(s.config.Dir, entry)
	if err != nil {
		s.compactedAt = s.sizeBytes // Try again when it has doubled.
		s.config.Trouble(err)
		return
	}
	old := s.file
	s.file, s.sizeBytes, s.compactedAt = file, sizeBytes, sizeBytes
	s.closeErr = errors.Join(s.closeErr, old.Close())
}

// Close ends the store. Proposals that are waiting fail with kind engine.KindUnavailable. It may be called more than once.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		<-s.closed
		err = errors.Join(s.closeErr, s.file.Close(), s.lock.Close())
	})
	return err
}
