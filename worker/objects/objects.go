// Package objects is what a worker has of the object store: the store itself, the socket by which processes of the machine use it, the
// Arrow Flight service for all others, the pulls that bring copies here, and the stream on which the head hears what the store has and
// gives its orders. objects.go opens and closes these parts, sync.go speaks with the head, orders.go does what it says.
package objects

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/audit"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config is what a worker's objects are made of.
type Config struct {
	// Node is the worker's id. Required.
	Node engine.NodeID
	// Conn is the connection to the head; its owner closes it after Stop. Required.
	Conn grpc.ClientConnInterface
	// CapacityBytes bounds the shared memory. Required.
	CapacityBytes int64
	// DataDir keeps the socket, what says which spill files are whose, and the spill files unless Spill names another place. Workers of one
	// machine may share it. Empty means a temporary folder that goes with Stop.
	DataDir string
	// Spill is where objects go when memory is short, as blob/open knows it. Empty means the folder "spill" in DataDir.
	Spill string
	// Flight takes Arrow Flight; Start or Stop closes it. Nil means no Flight service: no other node can read what is here.
	Flight net.Listener
	// FlightAddress is the "host:port" at which others reach Flight. Empty means that which it listens on.
	FlightAddress string
	// DialFlight makes connections to the Flight services of others, see transfer.PullerConfig. Nil means clear text,
	// here, too.
	DialFlight func(address string) (grpc.ClientConnInterface, io.Closer, error)
	// DialBulk makes those for large objects. Nil means that there are none.
	DialBulk func(ctx context.Context, address string) (net.Conn, error)
	// TokensOnly says that Flight believes no connection over loopback for being that of this process's user.
	TokensOnly bool
	// NoSocket says that no other process of the machine uses the store.
	NoSocket bool
	// Audit keeps what callers of the Flight service did and were refused. Nil means that nothing is kept.
	Audit *audit.Log
	// HostID tells the processes that may use the socket; see internal/hostid.
	HostID string
	// Open opens the bucket of an address. Nil means blob/open without options.
	Open func(ctx context.Context, uri string) (blob.Bucket, error)
	// Checkpoints is Open for the places of checkpoints, which jobs choose. Nil means Open.
	Checkpoints func(ctx context.Context, uri string) (blob.Bucket, error)
	// Logger is required.
	Logger *slog.Logger
}

// Objects is a running object store and its ends. It is safe for concurrent use.
type Objects struct {
	config Config
	store  *objectstore.Store
	puller *transfer.Puller
	// socket and flight are nil if there is none.
	socket *local.Server
	flight *grpc.Server
	// path is the socket's, address that of Flight; empty if there is none.
	path, address string
	head          enginev1.ObjectServiceClient
	worker        enginev1.WorkerServiceClient
	orders        *orders
	cluster       atomic.Pointer[string]
	// group runs everything but the orders. leaving is closed when the head is to be told that this is the end, left when it was.
	group         *lifecycle.Group
	leaving, left chan struct{}
	stop          sync.Once
	// evacuating is closed when the head is to move what the store has, evacuated when it has said for the first time what became of that;
	// evacuation is what it said last.
	evacuating, evacuated chan struct{}
	evacuate              sync.Once
	evacuation            atomic.Pointer[enginev1.Evacuation]
	// joined is closed when the head has answered for the first time.
	joined chan struct{}
	join   sync.Once
	// cleanUp are what Stop does in the end, in this order.
	cleanUp []func(context.Context) error
}

// Names in the data folder.
const (
	claimsFolder = "spill-claims"
	spillFolder  = "spill"
	socketName   = "objects"
	// maxSockets bounds the workers that share a data folder.
	maxSockets = 64
)

// Start opens the store and its ends, and begins to tell the head. It runs until Stop, or until the head refuses it for good; Done and Err
// tell. A failure names the part; nothing of it is left then.
func Start(ctx context.Context, config Config) (_ *Objects, err error) {
	if config.Open == nil {
		config.Open = func(ctx context.Context, uri string) (blob.Bucket, error) {
			return open.Bucket(ctx, uri, open.Options{})
		}
	}
	if config.Checkpoints == nil {
		config.Checkpoints = config.Open
	}
	o := &Objects{
		config: config, head: enginev1.NewObjectServiceClient(config.Conn), worker: enginev1.NewWorkerServiceClient(config.Conn),
		group: lifecycle.NewGroup(context.WithoutCancel(ctx), "objects"), leaving: make(chan struct{}), left: make(chan struct{}), joined: make(chan struct{}),
		evacuating: make(chan struct{}), evacuated: make(chan struct{}),
	}
	none := ""
	o.cluster.Store(&none)
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		err = errors.Join(err, o.close(ctx))
		if config.Flight != nil && o.flight == nil {
			err = errors.Join(err, config.Flight.Close())
		}
	}()
	if err := objectstore.CheckLimits(); err != nil {
		config.Logger.WarnContext(ctx, "the object store may run out of file descriptors", "error", err)
	}
	if err := o.openStore(ctx); err != nil {
		return nil, engine.WrapError("start object store", string(config.Node), err)
	}
	o.puller = transfer.NewPuller(transfer.PullerConfig{Store: o.store, Locate: o.locate, Self: config.Node, Dial: config.DialFlight, DialBulk: config.DialBulk, Logger: config.Logger})
	o.orders = newOrders(o.store, o.puller.Pull, config.Logger)
	if !config.NoSocket {
		if err := o.listen(ctx); err != nil {
			return nil, engine.WrapError("start object store", string(config.Node), err)
		}
	}
	if config.Flight != nil {
		o.serveFlight()
	}
	o.group.Go("sync", o.keepInSync)
	return o, nil
}

const stopWithin = 10 * time.Second

// openStore opens the store with the folder and the bucket that it spills to.
func (o *Objects) openStore(ctx context.Context) error {
	dir := o.config.DataDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "engine-objects-"); err != nil {
			return engine.Errorf(engine.KindUnavailable, "make data folder", "", "%w", err)
		}
		o.cleanUp = append(o.cleanUp, func(context.Context) error { return os.RemoveAll(dir) })
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "find data folder", o.config.DataDir, "%w", err)
	}
	o.config.DataDir = dir
	if o.config.Spill == "" {
		o.config.Spill = filepath.Join(dir, spillFolder)
	}
	bucket, err := o.config.Open(ctx, o.config.Spill)
	if err != nil {
		return err
	}
	claim, err := spill.NewClaim(filepath.Join(dir, claimsFolder), o.config.Node, o.config.Spill)
	if err != nil {
		return errors.Join(err, bucket.Close())
	}
	o.cleanUp = append([]func(context.Context) error{
		func(ctx context.Context) error { return errors.Join(claim.Close(ctx, bucket), bucket.Close()) },
	}, o.cleanUp...)
	o.store, err = objectstore.Open(ctx, objectstore.Config{
		CapacityBytes: o.config.CapacityBytes, Spill: bucket, Open: o.config.Checkpoints, Rescue: o.rescue,
		Node: o.config.Node, Generation: claim.Generation(), Events: o.hear,
	})
	if err != nil {
		return err
	}
	o.cleanUp = append([]func(context.Context) error{o.store.Close}, o.cleanUp...)
	o.group.Go("sweep", func(ctx context.Context) error {
		swept, err := spill.Sweep(ctx, filepath.Join(dir, claimsFolder), o.config.Open)
		if err != nil && ctx.Err() == nil {
			o.config.Logger.WarnContext(ctx, "spill files of workers that are gone could not all be deleted; the next start tries again", "error", err)
		}
		if swept.Generations > 0 {
			o.config.Logger.InfoContext(ctx, "deleted what workers that are gone had spilled", "workers", swept.Generations, "files", swept.Files, "bytes", swept.Bytes)
		}
		return nil
	})
	return nil
}

// hear logs what happens in the store by itself.
func (o *Objects) hear(event objectstore.Event) {
	level := slog.LevelDebug
	if event.Err != nil {
		level = slog.LevelWarn
	}
	//nolint:sloglint // Event.What is a constant of package objectstore.
	o.config.Logger.Log(context.Background(), level, event.What, "object", event.Object.String(), "bytes", event.SizeBytes, "error", event.Err)
}

// listen binds the first socket of the data folder that no other worker has.
func (o *Objects) listen(ctx context.Context) error {
	for n := 1; ; n++ {
		name := socketName
		if n > 1 {
			name += "-" + strconv.Itoa(n)
		}
		path := filepath.Join(o.config.DataDir, "sockets", name+".sock")
		server, err := local.Listen(context.WithoutCancel(ctx), local.ServerConfig{
			Store: o.store, Path: path, Node: o.config.Node, Cluster: o.Cluster, Fetch: o.Fetch, WaitElsewhere: o.waitElsewhere,
			Delete: o.deleteEverywhere, MayRead: mayRead, Logger: o.config.Logger,
		})
		switch kind := engine.KindOf(err); {
		case err == nil:
			o.socket, o.path = server, path
			o.group.Go("socket", server.Serve)
			return nil
		case kind == engine.KindConflict && n < maxSockets:
		case kind == engine.KindUnavailable && runtime.GOOS != "linux":
			o.config.Logger.WarnContext(ctx, "other processes cannot share the object store's memory on this system", "error", err)
			return nil
		default:
			return err
		}
	}
}

// serveFlight begins to serve Arrow Flight.
func (o *Objects) serveFlight() {
	o.address = cmp.Or(o.config.FlightAddress, o.config.Flight.Addr().String())
	guard := access.NewGuard(access.Config{
		Credentials: access.NewRemote(enginev1.NewAccessServiceClient(o.config.Conn), nil), TokensOnly: o.config.TokensOnly, Audit: o.config.Audit, Logger: o.config.Logger,
	})
	o.flight = rpc.NewServer(o.config.Logger, slices.Concat(
		[]grpc.ServerOption{grpc.Creds(pki.ServerCredentials(false))}, transfer.ServerOptions(o.config.CapacityBytes), guard.ServerOptions())...)
	service := transfer.NewService(transfer.ServiceConfig{
		Store: o.store, Node: o.config.Node, Cluster: o.Cluster, Address: o.Flight, TLS: o.config.DialFlight != nil, Locate: o.locate, Fetch: o.Fetch, Delete: o.deleteEverywhere,
		DefaultOwner: o.ownerOf, MayUse: access.Check, Home: home, Logger: o.config.Logger,
	})
	transfer.Register(o.flight, service)
	listener := service.Split(guard.Listen(o.config.Flight), o.group, transfer.BulkConfig{
		Is: isBulk, Enter: func(ctx context.Context, conn net.Conn) (context.Context, func(), error) {
			return guard.Enter(ctx, conn, doGet)
		},
	})
	o.group.Go("flight", func(context.Context) error { return o.flight.Serve(listener) })
}

// doGet is the call whose rule holds for bulk connections, too.
const doGet = "/arrow.flight.protocol.FlightService/DoGet"

// isBulk reports whether a connection was made to carry an object: TLS has asked for the certificate of a node then.
func isBulk(conn net.Conn) bool {
	state, secured := pki.StateOf(conn)
	return secured && state.NegotiatedProtocol == pki.ProtocolObjects
}

// home is the security domain of what a caller of the Flight service puts without naming one.
func home(ctx context.Context) string { return access.Of(ctx).Home() }

// mayRead lets the clients of the socket read every object, unless they have bound themselves to a domain: they are processes of the user
// whose store it is, or of root.
func mayRead(peer local.Peer, domain string) error {
	if peer.AnyDomain || peer.Domain == domain {
		return nil
	}
	return engine.Errorf(engine.KindPermission, "read object", "", "the object belongs to domain %q, and this client to %q", domain, peer.Domain)
}

// Store is the worker's store. It lives until Stop.
func (o *Objects) Store() *objectstore.Store { return o.store }

// Socket is the path of the unix socket, or empty.
func (o *Objects) Socket() string { return o.path }

// Flight is the "host:port" of the Arrow Flight service, or empty.
func (o *Objects) Flight() string { return o.address }

// Cluster is the id of the cluster that the head belongs to; empty until it has said so.
func (o *Objects) Cluster() string { return *o.cluster.Load() }

// Joined is closed when the head has heard of the store for the first time.
func (o *Objects) Joined() <-chan struct{} { return o.joined }

// Done is closed when the objects end by themselves or by Stop; Err then says why.
func (o *Objects) Done() <-chan struct{} { return o.group.Done() }

// Err returns the failure that ended the objects, or nil.
func (o *Objects) Err() error { return o.group.Err() }

// Stop closes the store and its ends, and tells the head that its objects go with it. Nothing may use the store any more but readers of
// handles. What is not done when ctx ends is cut off. Calling it again does nothing.
func (o *Objects) Stop(ctx context.Context) (err error) {
	o.stop.Do(func() {
		close(o.leaving)
		select {
		case <-o.left:
		case <-o.group.Done():
		case <-ctx.Done():
		}
		err = o.close(ctx)
	})
	return err
}

// close ends what was started.
func (o *Objects) close(ctx context.Context) error {
	var err error
	if o.flight != nil {
		stopFlight(ctx, o.flight)
	}
	if o.puller != nil {
		err = errors.Join(err, o.puller.Close(ctx))
	}
	if o.orders != nil {
		err = errors.Join(err, o.orders.stop(ctx))
	}
	// When nothing else fills the store any more: clients still read what they have mapped.
	if o.socket != nil {
		err = errors.Join(err, o.socket.Stop(ctx))
	}
	err = errors.Join(err, o.group.Stop(ctx))
	for _, f := range o.cleanUp {
		err = errors.Join(err, f(ctx))
	}
	return err
}

// stopFlight lets short calls end.
func stopFlight(ctx context.Context, server *grpc.Server) {
	stopped := make(chan struct{})
	go func() { // lifecycle: ends at the latest with Stop of the server below.
		defer close(stopped)
		server.GracefulStop()
	}()
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
	case <-ctx.Done():
	}
	server.Stop()
	<-stopped
}
