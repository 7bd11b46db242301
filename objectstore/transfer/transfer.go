// Package transfer moves objects between machines over Arrow Flight. Service is a node's Flight service, which any Flight client can
// use; Puller brings copies of objects from other nodes into the node's store; Client is for programs on other machines.
//
// A foreign client gets and puts the record batches of an object as Flight knows them. Our own nodes and clients ask for the bytes of an
// object's IPC stream instead, in chunks that carry where they belong and the checksum of the whole, so that a transfer writes into
// its destination and can continue from another holder.
//
// Bytes are not copied on their way out: gRPC reads them from the arena, which stays pinned until gRPC is done with it. On the way in
// they are copied once, from gRPC's buffers into the object's memory.
package transfer

import (
	"context"
	"io"
	"log/slog"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

// ServiceConfig is what a Service is made of.
type ServiceConfig struct {
	// Store is served. Required.
	Store *objectstore.Store
	// Node is the worker that owns the store.
	Node engine.NodeID
	// Cluster is the id of the node's cluster, against which references are checked. Nil, and an empty id, allow every cluster.
	Cluster func() string
	// Address is the "host:port" at which clients reach the service.
	Address func() string
	// Locate finds the holders of an object for GetFlightInfo. Nil means that only this node is known.
	Locate Locate
	// Fetch brings a copy of an object into the store. Nil means that only local objects are served.
	Fetch func(ctx context.Context, id engine.ObjectID) error
	// Delete deletes objects everywhere. Nil means in the store alone.
	Delete func(ctx context.Context, ids []engine.ObjectID) error
	// DefaultOwner says who owns what a client puts. An owner of kind pin with an empty id gets the object's id. Nil means OwnerOf.
	DefaultOwner func(ctx context.Context) (engine.ObjectOwner, error)
	// MaxBytesInFlight bounds the memory outside of the store that puts of unknown size take together. Zero means 1 GiB.
	MaxBytesInFlight int64
	// Logger hears of failures that no caller is told. Nil means nobody does.
	Logger *slog.Logger
}

// Service is the Flight service of one node. It is safe for concurrent use.
type Service struct {
	flight.BaseFlightServer
	config ServiceConfig
}

// NewService makes a Service.
func NewService(config ServiceConfig) *Service { return &Service{config: config} }

// ServerOptions are what a gRPC server needs to serve a Service well, besides what it has.
func ServerOptions() []grpc.ServerOption { return nil }

// Register adds the Service to a server.
func Register(server *grpc.Server, service *Service) {
	flight.RegisterFlightServiceServer(server, service)
}

// Holder is a node with a copy of an object.
type Holder struct {
	// Node has the copy, and Address is the "host:port" of its Flight service.
	Node    engine.NodeID
	Address string
	// SizeBytes is the object's length, if known.
	SizeBytes int64
	// CRC32C is its checksum if Checked.
	CRC32C  uint32
	Checked bool
}

// Locate finds the holders of an object.
type Locate func(ctx context.Context, id engine.ObjectID) ([]Holder, error)

// PullerConfig is what a Puller is made of.
type PullerConfig struct {
	// Store takes the copies. Required.
	Store *objectstore.Store
	// Locate finds holders. Required.
	Locate Locate
	// Self is this node, which is never asked.
	Self engine.NodeID
	// MaxBytesInFlight bounds the size of all objects that are pulled at the same time; a larger one is pulled alone. Zero means 1 GiB.
	MaxBytesInFlight int64
	// Dial connects to a Flight service. Nil means a connection in clear text.
	Dial func(address string) (grpc.ClientConnInterface, io.Closer, error)
	// Logger hears of holders that failed. Nil means nobody does.
	Logger *slog.Logger
}

// Puller brings copies of objects into a store. It is safe for concurrent use.
type Puller struct{}

// NewPuller makes a Puller. Close ends it.
func NewPuller(config PullerConfig) *Puller { return &Puller{} }

// Pull makes a cache copy of an object in the store and returns when it is sealed. Pulls of the same object are one transfer; ctx ends
// only the caller's wait.
func (p *Puller) Pull(ctx context.Context, id engine.ObjectID) error { return errStub }

// Close ends all transfers and closes the connections.
func (p *Puller) Close(ctx context.Context) error { return nil }

// Client puts and gets objects of a node on another machine. It is safe for concurrent use.
type Client struct{}

// Dial connects to a Flight service.
func Dial(ctx context.Context, address string, options ...grpc.DialOption) (*Client, error) {
	return nil, errStub
}

// Get returns an object.
func (c *Client) Get(ctx context.Context, id engine.ObjectID) (*table.Table, error) {
	return nil, errStub
}

// Put makes an object that a session owns.
func (c *Client) Put(ctx context.Context, id engine.ObjectID, session string, encoding *table.Encoding) (objectstore.Info, error) {
	return objectstore.Info{}, errStub
}

// Close ends the connection.
func (c *Client) Close() error { return nil }

var errStub = engine.Errorf(engine.KindInternal, "transfer", "", "stub")
