// Package head accepts jobs, keeps them durable, and drives the workers. It only assembles: head/state remembers, together with the
// other heads of the cluster, if there are any, and says which one leads; head/jobs drives each job, head/dispatch decides which worker
// holds which task, head/objects knows which store has which object, head/api adapts them to gRPC, head/web to HTTP.
package head

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/history"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/observe"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/tokens"
	"github.com/f708428e/engine/head/web"
	"github.com/f708428e/engine/internal/gossip"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/raftnet"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/audit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// leadWithin is how long Start waits for a leader when the head is one of several: the others may start after it.
	leadWithin = 3 * time.Second
	// handOverWithin is how long another head may take to lead when this one stops.
	handOverWithin = 3 * time.Second
	// endWithin is how long the end of a reign may take. A head that cannot end one ends altogether: two reigns must never meet.
	endWithin = 30 * time.Second
	// callPatience is how long calls that are under way may take when the head stops.
	callPatience = 100 * time.Millisecond
)

// Config is what a head is made of.
type Config struct {
	// DataDir keeps the durable state and the jobs' logs. One head at a time may use it. Required.
	DataDir string
	// Listener takes connections of gRPC and of other heads; the head closes it, also if Start fails. Required.
	Listener net.Listener
	// LocalListener takes connections of gRPC from this process; the head closes it, also if Start fails. Nil means that there are none.
	LocalListener net.Listener
	// Address is the "host:port" at which clients, workers, and other heads reach the listener. Empty means the listener's own.
	Address string
	// Join is a list of heads, such as "a:1,b:2", whose cluster this head is to become a part of. Empty means that of the data folder:
	// a new one has a cluster of its own.
	Join string
	// CheckAddress is asked about the address of another head before anything is sent there. Nil means that all are good.
	CheckAddress func(ctx context.Context, address string) error
	// Web is the address at which others reach the web port, such as "https://host:8265". Empty means the listener's.
	Web string
	// WebListener takes HTTP connections; the head closes it, also if Start fails. Nil means no web port.
	WebListener net.Listener
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// Dispatch holds leases' times; its ClusterID and Term are set by the head.
	Dispatch dispatch.Config
	// Jobs bounds what is kept and done at a time; its AssignDelay is set by the head.
	Jobs jobs.Config
	// EventLog is where the history goes: a folder, or s3://bucket/prefix. Empty means that none is kept. EventLogKeep is how long; zero
	// means 30 days, less than zero for ever.
	EventLog     string
	EventLogKeep time.Duration
	// SecretsKey is the file of the key with which secrets of jobs are sealed in the log; heads of one cluster need the same. Empty means secrets.key
	// in DataDir, which is made when it is needed.
	SecretsKey string
	// Gossip is the "IP:port" at which the head hears, while it leads, that workers may be gone; GossipOrFree takes a free port if that is
	// taken. Empty means that it finds out by their leases alone.
	Gossip       string
	GossipOrFree bool
	// Access says who may call.
	Access AccessConfig
	// Security says how links are encrypted.
	Security Security
	// Embedded says that the head and its only worker live and die together: nobody can hold a lease of an earlier term, and a request
	// that the worker cannot meet fails the job at once. No other head can join.
	Embedded bool
}

// Head is a running head: what every head has, and the reign of the one that leads.
type Head struct {
	config  Config
	address string
	web     string
	started time.Time
	store   *state.Store
	logs    *joblog.Book
	gate    *gate
	metrics *observe.Metrics
	// book knows the tokens, guard stands before all services, and audit, which an embedded head has not, keeps what they did.
	book  *tokens.Book
	guard *access.Guard
	audit *audit.Log
	// trust is nil without TLS.
	trust *api.TrustWatch
	// events is nil if no history is kept; it writes to bucket.
	events *history.Log
	bucket blob.Bucket
	// mux is nil for an embedded head.
	mux  *raftnet.Mux
	grpc *grpc.Server
	http *http.Server
	// reigns has the goroutine that begins and ends reigns, serve everything else that the head has always.
	reigns *lifecycle.Group
	serve  *lifecycle.Group
	// patience is how long calls may take when a reign ends: none if it does because another head leads.
	patience atomic.Int64
	stopping atomic.Bool
	// gossip is of the present reign; nil without one.
	gossip atomic.Pointer[gossip.Member]
	// reigned is closed when a reign has begun.
	reigned chan struct{}
}

// Start reads the state, joins a cluster if it is to, and serves. It returns when this head leads or knows which one does, and for one
// of several heads after a while also without, since it may have to wait for the others. The head runs until Stop.
func Start(ctx context.Context, config Config) (_ *Head, err error) {
	h := &Head{
		config: config, address: config.Address, started: time.Now(), logs: joblog.New(filepath.Join(config.DataDir, "logs")),
		reigns: lifecycle.NewGroup(context.Background(), "terms"), serve: lifecycle.NewGroup(context.Background(), "head"),
		reigned: make(chan struct{}),
	}
	if h.address == "" {
		h.address = config.Listener.Addr().String()
	}
	if h.config.CheckAddress == nil {
		h.config.CheckAddress = func(context.Context, string) error { return nil }
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.closeListeners())
		}
	}()
	if err := h.openVault(); err != nil {
		return nil, err
	}
	join, err := h.joining(ctx)
	if err != nil {
		return nil, err
	}
	listener := config.Listener
	storeConfig := state.Config{
		Dir: config.DataDir, NewClusterID: string(engine.NewJobID(h.started)), Address: h.address, Join: len(join) > 0, Logger: config.Logger,
		Trouble: func(err error) { config.Logger.WarnContext(ctx, "trouble with the head's log", "error", err) },
	}
	if !config.Embedded {
		h.mux = raftnet.Split(listener, config.Logger, access.CheckOwnUser)
		listener = h.mux.Rest()
		transport := raftnet.NewTransport(h.mux, h.address, h.config.CheckAddress, config.Security.Identity)
		storeConfig.Transport = transport
		defer func() {
			if h.store == nil {
				err = errors.Join(err, transport.Close(), h.mux.Close())
			}
		}()
	}
	if h.store, err = state.Open(storeConfig); err != nil {
		return nil, err
	}
	if h.mux != nil {
		h.mux.SetID(h.store.HeadID())
	}
	h.warnOfLog()
	if err := h.openGuard(ctx); err != nil {
		return nil, errors.Join(err, h.cleanUp(ctx))
	}
	h.keepTrust()
	h.serveAll(listener)
	if err := h.keepHistory(ctx); err != nil {
		return nil, errors.Join(err, h.cleanUp(ctx))
	}
	if err := h.join(ctx, join); err != nil {
		return nil, errors.Join(err, h.cleanUp(ctx))
	}
	h.reigns.Go("reign", h.reign)
	h.serve.Go("terms", func(ctx context.Context) error {
		select {
		case <-h.reigns.Done():
			return h.reigns.Err()
		case <-h.store.Failed():
			return h.store.Err()
		case <-ctx.Done():
			return nil
		}
	})
	if h.mux != nil {
		h.serve.Go("address", h.announce)
	}
	if err := h.awaitLeader(ctx); err != nil {
		return nil, errors.Join(err, h.cleanUp(ctx))
	}
	return h, nil
}

// keyFile is the key of secrets in a data folder.
const keyFile = "secrets.key"

// openVault reads the key of secrets, if there is one.
func (h *Head) openVault() (err error) {
	path, given := h.config.SecretsKey, true
	if path == "" {
		path, given = filepath.Join(h.config.DataDir, keyFile), false
	}
	h.config.Jobs.Vault, err = secret.NewVault(path, given)
	return err
}

// warnOfLog says what was found when the state was read.
func (h *Head) warnOfLog() {
	if torn := h.store.TornBytes(); torn > 0 {
		h.config.Logger.Warn("an unfinished record was cut off the log's end; it was never acknowledged", "bytes", torn)
	}
	if refused := h.store.RefusedEntries(); refused > 0 {
		h.config.Logger.Warn("the log holds entries that contradict others; they were refused when they were written, and changed nothing", "entries", refused)
	}
}

// keepHistory begins to write the event log.
func (h *Head) keepHistory(ctx context.Context) (err error) {
	if h.config.EventLog == "" {
		return nil
	}
	if h.bucket, err = open.Bucket(ctx, h.config.EventLog, open.Options{}); err != nil {
		return engine.WrapError("open event log", "", err)
	}
	h.events, err = history.New(history.Config{Bucket: h.bucket, Writer: h.store.HeadID(), Keep: h.config.EventLogKeep, Logger: h.config.Logger})
	if err != nil {
		return err
	}
	h.serve.Go("events", h.events.Run)
	return nil
}

// serveAll begins to answer: until there is a reign, that there is none.
func (h *Head) serveAll(listener net.Listener) {
	h.metrics = observe.New(h.store, h.config.Version, h.config.Security.refused())
	h.gate = &gate{logger: h.config.Logger, leader: h.store.Leader}
	h.grpc = rpc.NewServer(h.config.Logger, slices.Concat(h.config.Security.serverOptions(), h.metrics.ServerOptions(), h.guard.ServerOptions())...)
	if h.config.WebListener != nil {
		h.web = cmp.Or(h.config.Web, h.config.Security.webScheme()+h.config.WebListener.Addr().String())
		routes := h.guard.NewWeb(h.webHosts()...)
		web.Register(routes, h.isReady, h.metrics.Handler(), pages{h.gate})
		h.http = web.NewServer(routes)
		h.http.ConnContext = access.ConnContext
	}
	heads := api.NewHeads(h.store, h.address, h.gate.isOpen, h.config.CheckAddress)
	h.gate.register(h.grpc, &enginev1.ClusterService_ServiceDesc, heads, "ListHeads", "AddHead", "RemoveHead")
	for _, desc := range []*grpc.ServiceDesc{
		&enginev1.JobService_ServiceDesc, &enginev1.TaskService_ServiceDesc, &enginev1.ObjectService_ServiceDesc, &enginev1.WorkerService_ServiceDesc,
		&enginev1.AccessService_ServiceDesc, &enginev1.JoinService_ServiceDesc,
	} {
		h.gate.register(h.grpc, desc, nil)
	}
	h.metrics.CountCalls(h.grpc)
	serve := func(listener net.Listener) func(context.Context) error {
		return func(context.Context) error {
			if err := h.grpc.Serve(listener); !h.stopping.Load() {
				return err
			}
			return nil
		}
	}
	h.serve.Go("grpc", serve(h.guard.Listen(listener)))
	if local := h.config.LocalListener; local != nil {
		h.serve.Go("local grpc", serve(local))
	}
	if h.http != nil {
		h.serve.Go("web", func(context.Context) error {
			if err := h.http.Serve(h.guard.Listen(h.config.WebListener)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve web port: %w", err)
			}
			return nil
		})
	}
}

// isReady tells whether this head leads and serves, or follows one.
func (h *Head) isReady() bool {
	leader, _ := h.store.Leader()
	return !h.stopping.Load() && (h.gate.isOpen() || leader != "" && leader != h.store.HeadID())
}

// reign has a reign for each term in which this head leads, one after the other.
func (h *Head) reign(ctx context.Context) error {
	for {
		var term state.Term
		var open bool
		select {
		case term, open = <-h.store.Terms():
		case <-ctx.Done():
			return nil
		}
		if !open {
			return engine.Errorf(engine.KindInternal, "lead", "", "the state was closed under the head")
		}
		if h.isAmongSeveral() {
			// Another head has numbered lines that this one has not.
			h.logs.Begin(term.Number << 32)
		}
		h.config.Logger.InfoContext(ctx, "this head leads", "term", term.Number)
		r := h.newReign(term)
		h.gate.open(r.court)
		h.metrics.Lead(r.observed)
		h.markReigned()
		var failure error
		select {
		case <-term.Lost:
			h.config.Logger.WarnContext(ctx, "this head leads no more", "term", term.Number)
		case <-r.serve.Done():
			failure = engine.WrapError("lead", "", r.serve.Err())
		case <-ctx.Done():
		}
		h.metrics.Lead(nil)
		h.gossip.Store(nil)
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		err := r.end(ending, h.gate, time.Duration(h.patience.Load()))
		cancel()
		if err := errors.Join(failure, err); err != nil {
			return err
		}
	}
}

func (h *Head) isAmongSeveral() bool { return len(h.store.Heads()) > 1 }

func (h *Head) markReigned() {
	select {
	case <-h.reigned:
	default:
		close(h.reigned) // The one goroutine of reigns does.
	}
}

// awaitLeader waits until this head leads and serves, or follows. One of several heads does not wait for long.
func (h *Head) awaitLeader(ctx context.Context) error {
	patience := (<-chan time.Time)(nil)
	if h.isAmongSeveral() {
		timer := time.NewTimer(leadWithin)
		defer timer.Stop()
		patience = timer.C
	}
	for {
		changed := h.store.LeaderChanged()
		if leader, _ := h.store.Leader(); leader != "" && leader != h.store.HeadID() {
			return nil
		}
		select {
		case <-h.reigned:
			return nil
		case <-changed:
		case <-patience:
			h.config.Logger.WarnContext(ctx, "no head leads the cluster yet: more than half of its heads must run", "heads", len(h.store.Heads()))
			return nil
		case <-h.Done():
			return h.Err()
		case <-ctx.Done():
			return engine.WrapError("start head", h.address, context.Cause(ctx))
		}
	}
}

// Leads tells whether this head leads and serves.
func (h *Head) Leads() bool { return h.gate.isOpen() }

// HasLeader tells whether this head leads and serves, or knows the head that leads.
func (h *Head) HasLeader() bool { return h.isReady() }

// Done is closed when the head ends by itself or by Stop; Err then says why.
func (h *Head) Done() <-chan struct{} { return h.serve.Done() }

// Err returns the failure that ended the head, or nil.
func (h *Head) Err() error { return h.serve.Err() }

// Stop ends the head. If it leads and others can, one of them does from then on. Jobs that have not ended stay as they are, durable, for
// the next head of the data folder, or for the next leader. What is not done when ctx ends is cut off.
func (h *Head) Stop(ctx context.Context) error {
	h.stopping.Store(true)
	if h.gate.isOpen() && h.isAmongSeveral() {
		handing, cancel := context.WithTimeout(ctx, handOverWithin)
		if err := h.store.HandOver(handing); err != nil {
			h.config.Logger.WarnContext(ctx, "no other head leads yet", "error", err)
		}
		cancel()
	}
	h.patience.Store(int64(callPatience))
	return h.end(ctx)
}

// end ends everything, in the order in which it depends on each other.
func (h *Head) end(ctx context.Context) error {
	err := h.reigns.Stop(ctx)
	if h.grpc != nil {
		h.grpc.Stop()
	}
	if h.http != nil {
		err = errors.Join(err, h.http.Close())
	}
	err = errors.Join(err, h.serve.Stop(ctx), h.audit.Close(), h.store.Close())
	if h.bucket != nil {
		err = errors.Join(err, h.bucket.Close())
	}
	if h.mux != nil {
		err = errors.Join(err, h.mux.Close())
	}
	return err
}

// Abort ends the head as its death would, as far as others can tell: nobody hears from it any more, and no other head is asked to lead.
// It is for tests.
func (h *Head) Abort(ctx context.Context) error {
	h.stopping.Store(true)
	var err error
	if h.mux != nil {
		err = h.mux.Close()
	}
	return errors.Join(err, h.end(ctx))
}

// closeListeners closes the listeners that Start was given, if they are open.
func (h *Head) closeListeners() error {
	err := h.config.Listener.Close()
	if h.config.WebListener != nil {
		err = errors.Join(err, h.config.WebListener.Close())
	}
	if h.config.LocalListener != nil {
		err = errors.Join(err, h.config.LocalListener.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// cleanUp is Stop after a failure to start, which may be that ctx has ended.
func (h *Head) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	return h.Stop(ctx)
}
