package objects

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Directory is the shell around Core: it gives it the time, guards it with one lock, and waits for stores on behalf of callers. It is
// safe for concurrent use.
type Directory struct {
	config Config
	logger *slog.Logger
	now    func() time.Time
	// learned is closed when the stores of an earlier head's time have had theirs to come.
	learned chan struct{}

	mu   sync.Mutex
	core *Core
	// wakes has one channel for each open stream, results one for each request under way, answers one for each waiter.
	wakes   map[engine.NodeID]wake
	results map[uint64]chan Result
	answers map[uint64]chan Answer
	// hear is the subscriber, news are what it has not heard, and spreading says that somebody is telling it.
	hear      func(News)
	news      []News
	spreading bool
}

type wake struct {
	session uint64
	signal  chan struct{}
}

// NewDirectory makes a directory whose time is that of now; nil means time.Now. The logger hears of what is lost.
func NewDirectory(config Config, logger *slog.Logger, now func() time.Time) *Directory {
	if now == nil {
		now = time.Now
	}
	d := &Directory{
		config: config.withDefaults(), logger: logger, now: now, core: NewCore(now(), config), learned: make(chan struct{}),
		wakes: map[engine.NodeID]wake{}, results: map[uint64]chan Result{}, answers: map[uint64]chan Answer{},
	}
	if !d.core.Learning(now()) {
		close(d.learned)
	}
	return d
}

// Run lets time pass until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	ticker := time.NewTicker(max(time.Millisecond, d.config.LeaseTime/10))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.do(func(core *Core, now time.Time) {
				core.Tick(now)
				if !core.Learning(now) {
					select {
					case <-d.learned:
					default:
						close(d.learned)
					}
				}
			})
		case <-ctx.Done():
			return nil
		}
	}
}

// do runs one step of the core and acts on its events.
func (d *Directory) do(step func(core *Core, now time.Time)) {
	d.mu.Lock()
	step(d.core, d.now())
	events := d.core.Take()
	for _, id := range events.Wake {
		select {
		case d.wakes[id].signal <- struct{}{}:
		default: // It is awake already, or has no stream.
		}
	}
	for _, result := range events.Results {
		if waiting := d.results[result.Number]; waiting != nil {
			delete(d.results, result.Number)
			waiting <- result // It has room for one.
		}
	}
	for _, answer := range events.Answers {
		if waiting := d.answers[answer.Waiter]; waiting != nil {
			delete(d.answers, answer.Waiter)
			waiting <- answer
		}
	}
	told := d.hear != nil && !events.News.isEmpty()
	if told {
		d.news = append(d.news, events.News)
	}
	d.mu.Unlock()
	if told {
		d.spread()
	}
	for _, asked := range events.Asked {
		d.config.Remake(asked)
	}
	for _, loss := range events.Losses {
		level := slog.LevelInfo
		if loss.Lost > 0 {
			level = slog.LevelWarn
		}
		if d.config.Lost != nil {
			d.config.Lost(loss)
		}
		d.logger.Log(context.Background(), level, "an object store is gone with its copies", "node", loss.Node, "copies", loss.Copies,
			"promoted", loss.Promoted, "checkpointed", loss.Checkpointed, "lost", loss.Lost)
	}
}

// Connect begins a stream of a store from its first message. The channel signals that Answer has something to say; Disconnect ends the
// stream.
func (d *Directory) Connect(report *enginev1.SyncObjectsRequest) (node engine.NodeID, session uint64, answers <-chan struct{}, err error) {
	node = engine.NodeID(report.GetStore().GetNodeId())
	signal := make(chan struct{}, 1)
	d.do(func(core *Core, now time.Time) {
		if session, err = core.Connect(now, report.GetStore()); err != nil {
			return
		}
		d.wakes[node] = wake{session: session, signal: signal}
		if err = core.Report(now, node, session, report); err != nil {
			core.Disconnect(now, node, session, false)
			delete(d.wakes, node)
		}
	})
	return node, session, signal, err
}

// Report takes in a further message of a stream.
func (d *Directory) Report(node engine.NodeID, session uint64, report *enginev1.SyncObjectsRequest) (err error) {
	d.do(func(core *Core, now time.Time) { err = core.Report(now, node, session, report) })
	return err
}

// Answer returns what to tell a store, or nil if the stream has ended.
func (d *Directory) Answer(node engine.NodeID, session uint64) (answer *enginev1.SyncObjectsResponse) {
	d.do(func(core *Core, _ time.Time) { answer = core.Answer(node, session) })
	return answer
}

// Disconnect ends a stream. A store that has left for good is lost at once.
func (d *Directory) Disconnect(node engine.NodeID, session uint64, left bool) {
	d.do(func(core *Core, now time.Time) {
		core.Disconnect(now, node, session, left)
		if d.wakes[node].session == session {
			delete(d.wakes, node)
		}
	})
}

// LeaseTime is how long a session lasts after its last message.
func (d *Directory) LeaseTime() time.Duration { return d.config.LeaseTime }

// ClusterID is the cluster's id.
func (d *Directory) ClusterID() string { return d.config.ClusterID }

// OpenSession begins or takes up a session, and returns the number of the stream that keeps it from now on.
func (d *Directory) OpenSession(id string) (stream uint64, err error) {
	d.do(func(core *Core, now time.Time) { stream, err = core.OpenSession(now, id) })
	return stream, err
}

// RenewSession says that a session's stream carried a message. It reports false if the session has ended or has another stream.
func (d *Directory) RenewSession(id string, stream uint64) (ok bool) {
	d.do(func(core *Core, now time.Time) { ok = core.RenewSession(now, id, stream) })
	return ok
}

// CloseSession ends a session whose client says goodbye on its stream.
func (d *Directory) CloseSession(id string, stream uint64) {
	d.do(func(core *Core, now time.Time) { core.CloseSession(now, id, stream) })
}

// EndOwner ends all references of an owner, also those that stores tell of later. It does not wait for the stores.
func (d *Directory) EndOwner(owner engine.ObjectOwner) {
	d.do(func(core *Core, now time.Time) { core.EndOwner(now, owner) })
}

// Revive makes ids usable again that were deleted: their objects are about to be made again.
func (d *Directory) Revive(ids []engine.ObjectID) {
	d.do(func(core *Core, _ time.Time) { core.Revive(ids...) })
}

// Stores returns how the connected stores are reached, in order of their node ids.
func (d *Directory) Stores() []*enginev1.ObjectStoreAddress {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Stores()
}

// Full reports whether objects wait for room in a node's store, as it last said. A node without a store is not full.
func (d *Directory) Full(node engine.NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Full(node)
}

// Usage returns what each store holds, in order of their node ids.
func (d *Directory) Usage() []*enginev1.NodeObjectStore {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Usage()
}

// List returns up to limit objects by size, the largest first, and how many there are of which size in all.
func (d *Directory) List(filter Filter, limit int) (found []*enginev1.ObjectInfo, total, totalBytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.List(filter, limit)
}
