package node

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/internal/hostid"
	"github.com/f708428e/engine/internal/security/places"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/worker/objects"
)

// DefaultFlightPort is the port that a worker's Arrow Flight service takes if it is free and no other is asked for.
const DefaultFlightPort = 10002

// ObjectStoreConfig says how a worker keeps objects.
type ObjectStoreConfig struct {
	// MemoryBytes bounds the shared memory. Zero means 30% of what the machine or the smallest cgroup limit gives.
	MemoryBytes int64
	// Spill is where objects go when memory is short: a folder, or s3://bucket/prefix. Empty means the folder "spill" in DataDir.
	Spill string
	// DataDir keeps the store's socket and spill files; workers of one machine may share it. Empty means a folder of the worker's own
	// among the temporary files, which goes with it.
	DataDir string
	// FlightPort takes Arrow Flight. Zero means DefaultFlightPort, or a free one if that is taken; -1 means a free one.
	FlightPort int
	// TokensOnly says that the Flight service believes nobody for being this process's user on this machine: whoever has no certificate of the
	// cluster shows a token. Workers in clear text then get nothing from this one.
	TokensOnly bool
	// Disabled says that the worker has no object store.
	Disabled bool
	// private says that nobody but the worker's own tasks uses the store, which is opened when the first one does.
	private bool
}

// nodeObjects is a worker's object store, perhaps not open yet. A nil one is none.
type nodeObjects struct {
	start func(context.Context) (*objects.Objects, error)

	mu sync.Mutex // Held while the store is opened.
	// opened is nil until then; after stop nothing is opened any more.
	opened  *objects.Objects
	stopped bool
}

// startObjects opens a worker's object store, unless it is private.
func startObjects(ctx context.Context, config ObjectStoreConfig, node engine.NodeID, conn grpc.ClientConnInterface, l *links, allowed *places.Policy, logger *slog.Logger) (*nodeObjects, error) {
	own := objects.Config{
		Checkpoints: func(ctx context.Context, uri string) (blob.Bucket, error) { return openAllowed(ctx, uri, allowed) },
		Node:        node, Conn: conn, CapacityBytes: config.MemoryBytes, DataDir: config.DataDir, Spill: config.Spill, NoSocket: config.private,
		HostID: hostid.ID(), TokensOnly: config.TokensOnly, Logger: logger,
	}
	if own.CapacityBytes == 0 {
		own.CapacityBytes = defaultStoreBytes()
	}
	n := &nodeObjects{start: func(ctx context.Context) (*objects.Objects, error) { return objects.Start(ctx, own) }}
	if config.private {
		return n, nil
	}
	var err error
	if own.Flight, err = listenFlight(ctx, l.flightHost(), config.FlightPort); err != nil {
		return nil, err
	}
	own.FlightAddress, own.DialFlight, own.DialBulk = l.at(own.Flight), l.dialFlight(), l.dialBulk()
	own.Flight = l.listen(own.Flight, acceptFlight)
	n.opened, err = n.start(ctx)
	return n, err
}

// fallbackStoreBytes is a store's size where the system does not tell how much memory there is.
const fallbackStoreBytes = 1 << 30

func defaultStoreBytes() int64 {
	if total := memoryBytes(); total > 0 {
		return objectstore.DefaultCapacityBytes(total)
	}
	return fallbackStoreBytes
}

// listenFlight listens for Arrow Flight.
func listenFlight(ctx context.Context, host string, port int) (net.Listener, error) {
	switch {
	case port < 0:
		port = 0
	case port == 0:
		address := net.JoinHostPort(host, strconv.Itoa(DefaultFlightPort))
		if listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address); err == nil {
			return listener, nil
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, engine.Errorf(engine.KindConflict, "listen for Flight", net.JoinHostPort(host, strconv.Itoa(port)), "%w", err).
			WithHint("choose another port, or none: then a free one is taken")
	}
	return listener, nil
}

// store returns the store, and opens it first if need be.
func (n *nodeObjects) store(ctx context.Context) (*objectstore.Store, error) {
	o, err := n.get(ctx)
	if err != nil {
		return nil, err
	}
	return o.Store(), nil
}

// fetch brings a copy of an object that is elsewhere into the store.
func (n *nodeObjects) fetch(ctx context.Context, id engine.ObjectID) error {
	o, err := n.get(ctx)
	if err != nil {
		return err
	}
	return o.Fetch(ctx, id)
}

// evacuate has what others need of the store moved to other nodes.
func (n *nodeObjects) evacuate(ctx context.Context) error {
	if o := n.started(); o != nil {
		return o.Evacuate(ctx)
	}
	return nil
}

func (n *nodeObjects) get(ctx context.Context) (*objects.Objects, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return nil, engine.Errorf(engine.KindUnavailable, "open object store", "", "the worker is stopping")
	}
	if n.opened == nil {
		var err error
		if n.opened, err = n.start(ctx); err != nil {
			return nil, err
		}
	}
	return n.opened, nil
}

// open opens the store, and returns when the head knows of it.
func (n *nodeObjects) open(ctx context.Context) error {
	if n == nil {
		return engine.Errorf(engine.KindInvalidArgument, "open object store", "", "the worker has none")
	}
	o, err := n.get(ctx)
	if err != nil {
		return err
	}
	select {
	case <-o.Joined():
		return nil
	case <-o.Done():
		return o.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// started returns the store's parts, or nil if they were not started.
func (n *nodeObjects) started() *objects.Objects {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opened
}

func (n *nodeObjects) joined() <-chan struct{} {
	if o := n.started(); o != nil {
		return o.Joined()
	}
	return nil
}

func (n *nodeObjects) done() <-chan struct{} {
	if o := n.started(); o != nil {
		return o.Done()
	}
	return nil
}

func (n *nodeObjects) err() error {
	if o := n.started(); o != nil {
		return o.Err()
	}
	return nil
}

func (n *nodeObjects) socket() string {
	if o := n.started(); o != nil {
		return o.Socket()
	}
	return ""
}

func (n *nodeObjects) flight() string {
	if o := n.started(); o != nil {
		return o.Flight()
	}
	return ""
}

// stop closes the store.
func (n *nodeObjects) stop(ctx context.Context) error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	if o := n.started(); o != nil {
		return o.Stop(ctx)
	}
	return nil
}
