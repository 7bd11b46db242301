package state

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config says where the state lives, and who shares it.
type Config struct {
	// Dir is the folder, made if it does not exist. Required.
	Dir string
	// NewClusterID names the cluster of a new folder. Required unless Join is set.
	NewClusterID string
	// CompactAboveBytes is the log's size from which a snapshot is made and the log is cut. Zero means 64 MiB.
	CompactAboveBytes int64
	// Trouble hears of failures that no caller does: a snapshot that could not be made, an entry of the log that contradicts the state.
	// Nil means that nobody does. It must not call the store.
	Trouble func(error)
	// Now tells the time that entries carry. Nil means time.Now.
	Now func() time.Time
	// HeadID names this head. Empty means the one that Dir holds, which is made once.
	HeadID string
	// Address is the "host:port" at which the other heads reach this one.
	Address string
	// Transport carries raft's messages between heads; the store closes it if it can be closed. Nil means that this head stays alone.
	Transport raft.Transport
	// Join says that a new folder begins no cluster: another head adds this one to its own. NewClusterID is then not used.
	Join bool
	// Patience is how long a head hears nothing of the leader before it wants to lead itself, at least; at most twice as long. A leader
	// that reaches no majority for half of it leads no more. Zero means 1 s.
	Patience time.Duration
	// Logger hears of elections and of trouble between heads. Nil means that nobody does.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.CompactAboveBytes == 0 {
		c.CompactAboveBytes = 64 << 20
	}
	if c.Trouble == nil {
		c.Trouble = func(error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Patience == 0 {
		c.Patience = time.Second
	}
	return c
}

// address is this head's in the configuration, which knows no empty one.
func (c Config) address() raft.ServerAddress {
	if c.Address == "" {
		return alone
	}
	return raft.ServerAddress(c.Address)
}

// alone stands for the address of a head that has none.
const alone = "alone"

func newHeadID() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // It never fails.
	return "head-" + hex.EncodeToString(random[:])
}

// Store makes entries durable on a majority of the heads and applies them, the same at each head. Any head can look; only the one that
// leads takes proposals, and what the state refuses never becomes durable. It is safe for concurrent use.
type Store struct {
	config  Config
	folder  *folder
	raft    *raft.Raft
	machine *machine
	link    *link
	group   *lifecycle.Group
	once    sync.Once
	// done is closed when Close has begun.
	done chan struct{}
	// notify tells of each beginning (true) and end (false) of leading.
	notify chan bool
	// observed hears of new leaders.
	observed chan raft.Observation
	observer *raft.Observer
	terms    chan Term
	// compact has a place for one signal: that the log is to be cut.
	compact chan struct{}

	writer writer

	mu sync.Mutex
	// ruling is the reign in which proposals are taken; nil in none.
	ruling *reign
	// queue holds the proposals that wait for the writer. It has no limit, so that proposing never blocks.
	queue   []*proposal
	closing bool
	counts  Counts
	// failure is what ended the store by itself; failed is closed with it.
	failure error
	failed  chan struct{}
	// leader is what Leader answers; changed is closed and replaced when that changes.
	leader  Head
	changed chan struct{}
}

// Open reads the state in config.Dir, and takes the folder for itself: a second Open of the same folder fails with kind
// engine.KindConflict until Close. It does not wait for this head or another one to lead: Terms tells. A folder of a head that knew no
// raft is made into one of this version.
func Open(config Config) (*Store, error) {
	config = config.withDefaults()
	s := &Store{
		config: config, done: make(chan struct{}), notify: make(chan bool, 16), observed: make(chan raft.Observation, 1),
		terms: make(chan Term, 1), compact: make(chan struct{}, 1), failed: make(chan struct{}), changed: make(chan struct{}),
		group: lifecycle.NewGroup(context.Background(), "state"),
	}
	s.machine = &machine{state: New(), failed: s.fail, refused: s.config.Trouble, applied: s.applied}
	transport := config.Transport
	if transport == nil {
		_, transport = raft.NewInmemTransport(config.address())
	}
	s.link = newLink(transport)
	var err error
	if s.folder, err = openFolder(config, s.onlySelf, s.link); err != nil {
		return nil, errors.Join(err, s.link.Close())
	}
	s.config.HeadID = s.folder.headID
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.link.Close(), s.folder.close())
	}
	return s, nil
}

func (s *Store) onlySelf(headID string) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(headID), Address: s.config.address()}}}
}

// start starts raft and the goroutines around it.
func (s *Store) start() error {
	_, preVote := s.link.Transport.(raft.WithPreVote)
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(s.config.HeadID)
	config.HeartbeatTimeout, config.ElectionTimeout = s.config.Patience, s.config.Patience
	config.LeaderLeaseTimeout = s.config.Patience / 2
	config.CommitTimeout = s.config.Patience / 4
	config.MaxAppendEntries = 16
	config.ShutdownOnRemove = false
	config.PreVoteDisabled = !preVote
	config.NoLegacyTelemetry = true
	// The size of the log decides, and Store looks at that.
	config.SnapshotInterval, config.SnapshotThreshold = 24*time.Hour, 1<<60
	config.TrailingLogs = trailingEntries
	if s.config.Transport == nil {
		config.TrailingLogs = 0
	}
	config.NotifyCh = s.notify
	config.Logger = newRaftLogger(s.config.Logger)
	started, err := raft.NewRaft(config, s.machine, s.folder.log, s.folder.votes, s.folder.snapshots, s.link)
	if err != nil {
		return engine.Errorf(engine.KindCorrupt, "start raft", s.config.Dir, "%w", err)
	}
	s.mu.Lock() // The machine may have failed already.
	s.raft = started
	s.mu.Unlock()
	servers := s.raft.GetConfiguration().Configuration().Servers
	isAlone := len(servers) == 1 && servers[0].ID == config.LocalID && servers[0].Suffrage == raft.Voter
	if isAlone && s.config.Join {
		return errors.Join(ownCluster(s.config.Dir), s.raft.Shutdown().Error())
	}
	s.observer = raft.NewObserver(s.observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	s.raft.RegisterObserver(s.observer)
	s.writer = newWriter(s)
	s.group.Go("link", func(context.Context) error {
		s.link.run(s.done)
		return nil
	})
	s.group.Go("leader", s.watch)
	s.group.Go("writer", s.writer.run)
	s.group.Go("compact", s.compactor)
	if isAlone {
		s.link.elect(servers[0], s.done)
	}
	return nil
}

// trailingEntries is how many entries stay in the log behind a snapshot, for heads that are a little behind.
const trailingEntries = 256

// TornBytes is how many bytes of an unfinished record Open cut off.
func (s *Store) TornBytes() int64 { return s.folder.tornBytes }

// RefusedEntries is how many entries of a log of version 1 contradict others. Early versions wrote such entries, and told the caller
// that the entry was refused.
func (s *Store) RefusedEntries() int { return s.folder.refusedEntries }

// HeadID is the id of this head.
func (s *Store) HeadID() string { return s.config.HeadID }

// View calls look with the state as this head has it, which look must not change or keep; jobs' messages may be kept. At the head that
// leads it holds all that was acknowledged, unless another head leads by now and this one has not noticed: see Read. Elsewhere it may
// be behind.
func (s *Store) View(look func(*State)) { s.machine.view(look) }

// Read is View once this head has made sure that it still leads: look sees everything that any head acknowledged before the call.
// Elsewhere it fails as proposing does.
func (s *Store) Read(ctx context.Context, look func(*State)) error {
	if err := s.ProposeIf(ctx, nil); err != nil {
		return err
	}
	s.View(look)
	return nil
}

// Failed is closed when the store has ended by itself, because its log is of no use any more or holds what this version does not know;
// Err then says why.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns the failure that ended the store, or nil.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// fail ends the store by itself, without waiting. The folder stays this head's until Close.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failure == nil
	if first {
		s.failure = err
		close(s.failed)
	}
	s.ruling = nil
	started := s.raft
	s.mu.Unlock()
	if !first {
		return
	}
	s.config.Trouble(err)
	if started != nil {
		started.Shutdown()
	}
}

// applied is called with each group that is applied.
func (s *Store) applied() {
	if s.folder.log.SizeBytes() <= s.config.CompactAboveBytes {
		return
	}
	select {
	case s.compact <- struct{}{}:
	default: // It will look anyway.
	}
}

// compactor cuts the log when it has grown. After a failure it tries again when the log has doubled.
func (s *Store) compactor(ctx context.Context) error {
	compactedAt := min(s.folder.log.SizeBytes(), s.config.CompactAboveBytes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.compact:
		}
		size := s.folder.log.SizeBytes()
		if size <= s.config.CompactAboveBytes || size <= 2*compactedAt {
			continue
		}
		err := s.raft.Snapshot().Error()
		if broken := s.folder.log.Err(); broken != nil {
			s.fail(broken)
			return nil
		}
		if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
			s.config.Trouble(engine.WrapError("make snapshot", s.config.Dir, err))
		}
		compactedAt = s.folder.log.SizeBytes()
	}
}

// Close ends the store. Proposals that are waiting fail with kind engine.KindUnavailable. It may be called more than once.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.ruling = nil
		s.mu.Unlock()
		close(s.done)
		s.writer.signal()
		// The group that is under way becomes durable, or this head ceases to lead for want of a majority.
		<-s.writer.ended
		err = s.raft.Shutdown().Error()
		s.raft.DeregisterObserver(s.observer)
		err = errors.Join(err, s.group.Stop(context.Background()))
		close(s.terms)
		err = errors.Join(err, s.folder.close())
	})
	return err
}

func (s *Store) notLeading(operation string, cause error) error {
	id, address := s.Leader()
	if id == s.config.HeadID {
		id, address = "", "" // Its term has ended, or has not begun.
	}
	return rpc.NewNotLeader(operation, id, address, cause)
}

func errClosed() error {
	return engine.Errorf(engine.KindUnavailable, "write log", "", "the head is stopping")
}

// proposal is a group of entries that become durable together, or not at all.
type proposal struct {
	entries []*enginev1.LogEntry
	check   func(*State) error
	done    func(error)
	// err is the answer that done is to have; the writer's.
	err error
}
