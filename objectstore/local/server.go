package local

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/objectstore"
)

// ServerConfig is what a server is made of.
type ServerConfig struct {
	// Store is what is served. The server does not close it.
	Store *objectstore.Store
	// Path is the socket's. Its folder is made if need be and gets mode 0700. A socket that a dead server left is replaced; if a server
	// lives there, that is a conflict.
	Path string
	// Node is told to clients.
	Node engine.NodeID
	// Cluster returns the id of the cluster that the store belongs to, empty while there is none. Nil means none.
	Cluster func() string
	// Authorize decides who may connect. Nil means processes of this process's user and of root.
	Authorize func(Peer) error
	// MayRead decides whether a peer may read, and delete, the objects of a security domain. It is called for every get, so it must be
	// quick. Nil means its own domain alone. Executors may read all.
	MayRead func(peer Peer, domain string) error
	// Fetch brings a copy of an object from elsewhere into the store. Nil means that there is no elsewhere.
	Fetch func(ctx context.Context, id engine.ObjectID) error
	// WaitElsewhere returns when count of the objects exist anywhere, or with those that do when ctx ends. Nil means that this store
	// alone is waited for.
	WaitElsewhere func(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error)
	// Delete deletes objects everywhere. Nil means in this store.
	Delete func(ctx context.Context, ids []engine.ObjectID) error
	// Logger hears of connections that fail. Nil means nobody does.
	Logger *slog.Logger
}

// Server serves a store on a unix socket and to executors. It is safe for concurrent use.
type Server struct {
	config   ServerConfig
	listener *net.UnixListener
	lock     *os.File
	group    *lifecycle.Group
	pid      int
	unwatch  func()
	// running counts the requests of all connections that are not answered yet; copying has room for those that copy at a time.
	running atomic.Int64
	copying chan struct{}

	mu      sync.Mutex
	conns   map[*conn]struct{}
	stopped bool
	// busy counts the connections that may still have requests. quiet is closed when the server is stopped and there are none.
	busy  int
	quiet chan struct{}
}

// Listen binds the socket; Serve accepts connections. Stop frees what Listen made, the end of ctx ends the connections. The errors'
// kinds: engine.KindConflict if another server lives at the path, engine.KindUnavailable on a system other than Linux.
func Listen(ctx context.Context, config ServerConfig) (*Server, error) {
	if !supported {
		return nil, errUnsupported("listen")
	}
	if config.Cluster == nil {
		config.Cluster = func() string { return "" }
	}
	if config.Authorize == nil {
		config.Authorize = sameUser
	}
	if config.MayRead == nil {
		config.MayRead = sameDomain
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config: config, pid: os.Getpid(), conns: map[*conn]struct{}{}, quiet: make(chan struct{}),
		copying: make(chan struct{}, copyWorkers()),
	}
	if err := s.bind(); err != nil {
		return nil, err
	}
	s.group = lifecycle.NewGroup(ctx, "store socket")
	s.unwatch = config.Store.OnRetire(s.retired)
	return s, nil
}

// bind makes the folder and the socket in it, of which one server at a time can be the owner.
func (s *Server) bind() error {
	const op = "listen on store socket"
	path, err := filepath.Abs(s.config.Path)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, op, s.config.Path, "%w", err)
	}
	s.config.Path = path
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return engine.Errorf(fileKind(err), op, path, "make its folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // A folder needs its x.
		return engine.Errorf(fileKind(err), op, path, "make its folder private: %w", err)
	}
	// The lock ends with the process that holds it, however that ends, unlike the socket's file.
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	defer func() {
		if s.listener == nil {
			_ = lock.Close()
		}
	}()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return engine.Errorf(fileKind(err), op, path, "remove what an earlier server left: %w", err)
	}
	err = withShortPath(path, func(short string) error {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		if err == nil {
			listener.SetUnlinkOnClose(false)
			s.listener = listener
		}
		return err
	})
	if err != nil {
		return engine.Errorf(fileKind(err), op, path, "%w", err)
	}
	s.lock = lock
	return nil
}

// fileKind tells what a user can mend from what is wrong with the system.
func fileKind(err error) engine.Kind {
	switch {
	case errors.Is(err, os.ErrPermission):
		return engine.KindPermission
	case errors.Is(err, os.ErrNotExist):
		return engine.KindNotFound
	default:
		return engine.KindUnavailable
	}
}

// sameUser lets in who could do as it likes with this process anyway.
func sameUser(peer Peer) error {
	if own := os.Getuid(); peer.UID != 0 && int64(peer.UID) != int64(own) {
		return engine.Errorf(engine.KindPermission, "connect to object store", "", "user %d may not use the store of user %d", peer.UID, own)
	}
	return nil
}

func sameDomain(peer Peer, domain string) error {
	if peer.Domain != domain {
		return engine.Errorf(engine.KindPermission, "read object", "", "the object belongs to domain %q, and this client to %q", domain, peer.Domain)
	}
	return nil
}

// Serve accepts connections until Stop or the end of ctx, and returns nil then. It blocks.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.listener.Close() })()
	for {
		accepted, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			if !s.group.Go("connection", func(ctx context.Context) error {
				s.serve(ctx, accepted, "")
				return nil
			}) {
				return accepted.Close()
			}
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default:
			// Descriptors may have run out; those of connections that end come back.
			s.config.Logger.LogAttrs(ctx, slog.LevelWarn, "store socket cannot accept", slog.String("error", err.Error()))
			if !s.pause(ctx, 100*time.Millisecond) {
				return nil
			}
		}
	}
}

// pause waits, and reports whether the server still runs then.
func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.group.Done():
		return false
	}
}

// ServeExecutor serves a trusted child process over an inherited connection, which it closes, until the child ends or the server does;
// it blocks. name is the executor's among those that live. The child gets arenas to write to; what it has not sealed when it ends is
// aborted, and what it has sealed stays. Who is trusted is the caller's decision: Authorize is not asked.
func (s *Server) ServeExecutor(ctx context.Context, executor *net.UnixConn, name string) error {
	ended := make(chan struct{})
	if !s.group.Go("executor", func(group context.Context) error {
		defer close(ended)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(group, cancel)()
		s.serve(ctx, executor, name)
		return nil
	}) {
		_ = executor.Close()
		return engine.Errorf(engine.KindUnavailable, "serve executor", name, "the store's server is stopped")
	}
	<-ended
	return nil
}

// serve runs a connection from its beginning to its end.
func (s *Server) serve(ctx context.Context, accepted *net.UnixConn, executor string) {
	c := newConn(s, accepted, executor)
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		_ = accepted.Close()
		return
	}
	full := executor == "" && len(s.conns) >= maxConnections
	s.conns[c] = struct{}{}
	s.busy++
	s.mu.Unlock()
	err := c.run(ctx, full)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.config.Logger.LogAttrs(ctx, slog.LevelWarn, "store connection failed", slog.String("client", c.peer.Client),
			slog.Int("pid", int(c.peer.PID)), slog.String("error", err.Error()))
	}
}

// settle says that a connection has no more requests. When the server stops it waits until that is so of all: what the client of one may
// have mapped must not be given to another.
func (s *Server) settle() {
	s.mu.Lock()
	s.busy--
	stopped := s.stopped
	if stopped && s.busy == 0 {
		close(s.quiet)
	}
	s.mu.Unlock()
	if stopped {
		<-s.quiet
	}
}

// retired tells the connections that have an arena's descriptor that the arena is given back.
func (s *Server) retired(arena uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.retired(arena)
	}
}

// Stop ends the server and all connections, and waits for that until ctx ends. The pins of clients end with it, so whoever reads then
// may see other objects' bytes once the store is used again: stop the server when nothing else uses the store, right before closing
// it, or when the clients are gone.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	if first && s.busy == 0 {
		close(s.quiet)
	}
	s.mu.Unlock()
	if first {
		s.unwatch()
		_ = s.listener.Close()
	}
	err := s.group.Stop(ctx)
	if first {
		// While the lock is held the path is this server's.
		err = errors.Join(err, os.Remove(s.config.Path), s.lock.Close())
	}
	return engine.WrapError("stop store socket", "", err)
}
