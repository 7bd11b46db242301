// Package local is the object store's unix socket, by which processes on the same machine put objects and read them without a copy.
// Its protocol is proto/engine/v1/store_socket.proto.
package local

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

var errStub = engine.Errorf(engine.KindInternal, "store socket", "", "stub")

// Peer is a process at the other end of a connection.
type Peer struct {
	// UID, GID, and PID are what the kernel says of it; PID is 0 if it lives in a PID namespace that we do not see.
	UID, GID uint32
	PID      int32
	// Client, Session, and Domain are what it says of itself.
	Client, Session, Domain string
}

// ServerConfig is what a server is made of.
type ServerConfig struct {
	// Store is what is served. The server does not close it.
	Store *objectstore.Store
	// Path is the socket's. Its folder is made with mode 0700; a socket that a dead server left is replaced, a live one is a conflict.
	Path string
	// Node is told to clients.
	Node engine.NodeID
	// Cluster returns the id of the cluster that the store belongs to, empty while there is none. Nil means none.
	Cluster func() string
	// Authorize decides who may connect. Nil means processes of the same user and of root.
	Authorize func(Peer) error
	// MayRead decides whether a peer may read the objects of a security domain. Nil means its own.
	MayRead func(peer Peer, domain string) error
	// Fetch brings a copy of an object from elsewhere into the store. Nil means that there is no elsewhere.
	Fetch func(ctx context.Context, id engine.ObjectID) error
	// WaitElsewhere returns when count of the objects are anywhere. Nil means that this store alone is waited for.
	WaitElsewhere func(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error)
	// Delete deletes objects everywhere. Nil means in this store.
	Delete func(ctx context.Context, ids []engine.ObjectID) error
	// Logger hears of connections that fail. Nil means nobody does.
	Logger *slog.Logger
}

// Server serves a store on a unix socket. It is safe for concurrent use.
type Server struct{}

// Listen binds the socket; Serve accepts connections.
func Listen(ctx context.Context, config ServerConfig) (*Server, error) { return nil, errStub }

// Serve accepts connections until Stop or the end of ctx.
func (s *Server) Serve(ctx context.Context) error { return errStub }

// ServeExecutor serves a trusted child process over an inherited connection until it ends.
func (s *Server) ServeExecutor(ctx context.Context, conn *net.UnixConn, name string) error {
	return errStub
}

// Stop ends the server and all connections.
func (s *Server) Stop(ctx context.Context) error { return errStub }

// Options is what a client says of itself.
type Options struct {
	// Client is who it is, for people.
	Client string
	// Session owns what is put. Empty for a client that only reads.
	Session string
	// Domain is the security domain that objects are put into. Empty means "default".
	Domain string
	// Timeout bounds calls whose context has no deadline. Zero means 30 s.
	Timeout time.Duration
}

// Client is a connection to a store. It is safe for concurrent use.
type Client struct{}

// Dial connects to the socket at path.
func Dial(ctx context.Context, path string, options Options) (*Client, error) { return nil, errStub }

// NewExecutor makes a client of a connection that ServeExecutor serves at the other end.
func NewExecutor(ctx context.Context, conn *net.UnixConn, options Options) (*Client, error) {
	return nil, errStub
}

// Node is the worker that owns the store.
func (c *Client) Node() engine.NodeID { return "" }

// Cluster is the cluster that the store belonged to when the connection was made; empty if none.
func (c *Client) Cluster() string { return "" }

// Put keeps an object.
func (c *Client) Put(ctx context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	return objectstore.Info{}, errStub
}

// GetOptions steers Get.
type GetOptions struct {
	// Wait waits for an object that does not exist yet, until the deadline.
	Wait bool
	// Fetch brings an object that this store does not have from elsewhere.
	Fetch bool
}

// Get returns an object without copying it. The caller releases the table.
func (c *Client) Get(ctx context.Context, id engine.ObjectID, options GetOptions) (*table.Table, objectstore.Info, error) {
	return nil, objectstore.Info{}, errStub
}

// Wait returns when count of the objects exist.
func (c *Client) Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	return nil, errStub
}

// Delete deletes objects, whoever owns them.
func (c *Client) Delete(ctx context.Context, ids ...engine.ObjectID) error { return errStub }

// Close ends the client. Tables that are open stay readable.
func (c *Client) Close() error { return errStub }

// Done is closed when the connection is gone.
func (c *Client) Done() <-chan struct{} { return nil }
