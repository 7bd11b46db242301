// Package node assembles heads and workers for the engine command and for programs that embed the engine. It is the one package,
// with cmd, that links ONNX Runtime's binding.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/head"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/internal/security/places"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker"
)

// The ports that a head takes if it is not told others.
const (
	DefaultPort    = 10001
	DefaultWebPort = 8265
)

// HeadConfig is what a head is made of.
type HeadConfig struct {
	// Host is the address to listen on; empty means 127.0.0.1. One that other machines reach has TLS, see there.
	Host string
	// TLS is how its links are encrypted.
	TLS TLSConfig
	// Port takes gRPC; zero picks a free one.
	Port int
	// Listener replaces Host and Port; the node closes it. It must be on loopback unless there is TLS. Nil means that there is none.
	Listener net.Listener
	// WebPort takes HTTP; zero picks a free one, -1 means none.
	WebPort int
	// Gossip is how the head hears early that workers may be gone.
	Gossip GossipConfig
	// DataDir keeps the durable state. Required.
	DataDir string
	// Operators has those that steps map may name, which the workers must have, too. Nil means operator.Default.
	Operators *operator.Registry
	// Address is the "host:port" at which clients, workers, and other heads reach this one. Empty means that which it listens on.
	Address string
	// Join is a list of heads, such as "a:10001,b:10001", whose cluster this head is to become a part of. Empty means that of the data
	// folder: a new one has a cluster of its own.
	Join string
	// Access says who may call, beside tokens and certificates of the cluster and the user of this process.
	Access head.AccessConfig
	// EventLog is where the history of the cluster goes: an absolute folder, or s3://bucket/prefix. Empty means that none is kept.
	// EventLogKeep is how long it is kept; zero means 30 days, less than zero for ever.
	EventLog     string
	EventLogKeep time.Duration
	// Places says which files and buckets jobs may name. Nil allows all.
	Places *places.Policy
	// Secrets is how the head deals with the secrets of jobs. SecretsKey is the file of the key with which it seals them in its log: 32 random bytes in
	// base64, with mode 0600; heads of one cluster need the same. Empty means secrets.key in DataDir, which is made when it is needed.
	Secrets    SecretsConfig
	SecretsKey string
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// LeaseTime is how long a silent worker keeps its tasks. Zero means 5 s.
	LeaseTime time.Duration
	// TargetSplitBytes is how large a split of the input should be. Zero means the planner's default.
	TargetSplitBytes int64
}

// WorkerConfig is what a worker is made of.
type WorkerConfig struct {
	// Address is the head's "host:port", or a list of heads such as "a:10001,b:10001", of which one is enough. Required for a worker of its
	// own.
	Address string
	// Resources is what the worker offers; zero means DefaultResources.
	Resources engine.Resources
	// Labels are told to the head.
	Labels map[string]string
	// ONNXRuntime is the path of ONNX Runtime's shared library; empty means that it is looked for, see runtime/onnx.Find.
	ONNXRuntime string
	// Isolation is where models run of jobs that do not say, and of clients' tasks: "process", in executors, which needs RunExecutor, or
	// "none", in this process. IsolationAlways is process, and refuses jobs that ask for none. Empty means none.
	Isolation string
	// TLS is how its links are encrypted. A worker beside a head has the head's.
	TLS TLSConfig
	// Models replaces ONNX Runtime, for tests, and Executors what runs it in executors. The node closes them.
	Models, Executors runtime.Loader
	// Operators are those that tasks of clients and steps map may name, beside the ones that every worker has. Nil means operator.Default: what the
	// program has registered before it starts the node.
	Operators *operator.Registry
	// Allocator provides the memory of record batches. Nil means Go's heap.
	Allocator memory.Allocator
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// Places says which files and buckets jobs and tasks may name. Nil allows all.
	Places *places.Policy
	// Sandbox is how far executors must be confined: process.SandboxAuto, SandboxRequire, or SandboxOff. Empty means SandboxAuto.
	Sandbox string
	// ModelLoadTimeout and ModelLoadMemoryBytes bound the loading of a model in an executor. Zero means that its size decides, see
	// process.Config.
	ModelLoadTimeout     time.Duration
	ModelLoadMemoryBytes int64
	// ClaimCgroup lets this process move to a cgroup below its own, if it is alone in there, which was delegated to it: so that executors can have
	// others beside it. It is for programs that are a node and nothing else.
	ClaimCgroup bool
	// ObjectStore is how the worker keeps objects.
	ObjectStore ObjectStoreConfig
	// Gossip is how its head hears early that it may be gone. One beside its head in a process takes part when another head leads.
	Gossip GossipConfig
	// Secrets is how the worker deals with the secrets of jobs.
	Secrets SecretsConfig
	// ProtocolVersion replaces the protocol's version, for tests of what happens when they differ.
	ProtocolVersion uint32

	// patient makes the worker start without a head that leads, and wait for one.
	patient bool
	// ownGossip is where the head in this process gossips; nil if there is none.
	ownGossip func() string
	// buckets are those of the head in this process, which closes them; nil if there is none.
	buckets *buckets
	// links are nil for clear text; whoever starts the worker stops them.
	links *links
}

// Node is a running head, worker, or both.
type Node struct {
	address string
	web     string
	head    *head.Head
	worker  *workerParts
	// buckets are the head's; nil if there is none.
	buckets *buckets
	// links are nil for clear text.
	links *links
	done  chan struct{}
}

// clientConn is a connection that its owner closes.
type clientConn interface {
	grpc.ClientConnInterface
	Close() error
}

// workerParts are a worker and what it stands on.
type workerParts struct {
	worker *worker.Worker
	conn   clientConn
	models *models
	// objects is nil for a worker without an object store, gossip for one that takes no part in it.
	objects *nodeObjects
	gossip  *workerGossip
	// buckets is nil if they are the head's.
	buckets *buckets
}

// StartHead starts a head and, if workerConfig is not nil, a worker in the same process. It returns when the head serves and the
// worker has joined; a head of several that finds no leader yet does not wait for the worker. The node runs until Stop.
func StartHead(ctx context.Context, config HeadConfig, workerConfig *WorkerConfig) (_ *Node, err error) {
	if config.Host == "" {
		config.Host = "127.0.0.1"
	}
	allowed, held, err := config.Secrets.parse()
	if err != nil {
		return nil, err
	}
	l, err := openHeadLinks(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, cleanUp(ctx, l.stop))
		}
	}()
	listener := config.Listener
	if listener != nil {
		if err := CheckAddress(ctx, listener.Addr().String()); err != nil && l == nil {
			return nil, errors.Join(err, listener.Close())
		}
	} else if listener, err = listen(ctx, "gRPC", config.Host, config.Port); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(listener.Addr().String())
	if err == nil {
		host = l.gossipHost(host)
		err = config.Gossip.check(ctx, host)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	advertised, err := config.advertised(l)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	n := &Node{address: addressOf(listener, advertised), buckets: newBuckets(config.Places, config.DataDir), links: l, done: make(chan struct{})}
	check := CheckAddress
	if l != nil || config.TLS.Insecure {
		check = nil
	}
	if advertised != "" && config.Address == "" {
		config.Address = n.address
	}
	var webListener net.Listener
	if config.WebPort >= 0 {
		if webListener, err = listen(ctx, "web", config.Host, config.WebPort); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		n.web = l.webScheme() + addressOf(webListener, advertised)
		webListener = l.listen(webListener, acceptWeb)
	}
	var local *bufconn.Listener
	headConfig := head.Config{
		DataDir: config.DataDir, Listener: l.listen(listener, acceptHead), Address: config.Address, Join: config.Join, CheckAddress: check, WebListener: webListener, Web: n.web,
		Security: l.security(config.TLS),
		EventLog: config.EventLog, EventLogKeep: config.EventLogKeep, Version: config.Version, Logger: config.Logger,
		Dispatch: dispatch.Config{LeaseTime: config.LeaseTime}, Jobs: jobs.Config{
			TargetSplitBytes: config.TargetSplitBytes, Storage: n.buckets, Operators: stepOperators(config.Operators), Places: config.Places,
			AllowedSecrets: allowed, SecretsHeld: held,
		},
		SecretsKey: config.SecretsKey, Access: config.Access,
	}
	if !config.Gossip.Disabled {
		headConfig.Gossip, headConfig.GossipOrFree = config.Gossip.address(host)
	}
	if workerConfig != nil {
		local = bufconn.Listen(embeddedBuffer)
		headConfig.LocalListener = local
	}
	if n.head, err = head.Start(ctx, headConfig); err != nil {
		return nil, err
	}
	if workerConfig != nil {
		own := *workerConfig
		own.Address, own.patient, own.ownGossip, own.buckets = n.address, !n.head.HasLeader(), n.head.Gossip, n.buckets
		own.Gossip.Port = -1 // The other one is the head's.
		own.links = l
		if n.worker, err = startWorker(ctx, own, dialThrough(local, l.dialOptions(), n.address, config.Address)); err != nil {
			return nil, errors.Join(err, cleanUp(ctx, n.head.Stop))
		}
	}
	go n.watch() // lifecycle: ends with the head and the worker.
	return n, nil
}

// StartWorker starts a worker of the head that leads, whichever that is, and returns when the head has welcomed it. The node runs until Stop, or until the head refuses it.
func StartWorker(ctx context.Context, config WorkerConfig) (*Node, error) {
	l, err := openWorkerLinks(ctx, config.Address, config.TLS, config.Logger)
	if err != nil {
		return nil, err
	}
	config.links = l
	n, err := startWorkerNode(ctx, config)
	if err != nil {
		return nil, errors.Join(err, cleanUp(ctx, l.stop))
	}
	return n, nil
}

func startWorkerNode(ctx context.Context, config WorkerConfig) (*Node, error) {
	if err := config.Gossip.check(ctx, config.links.gossipHost(loopbackLike(config.Address))); err != nil {
		return nil, err
	}
	parts, err := startWorker(ctx, config, rpcDial(config.Address, config.links.dialOptions()))
	if err != nil {
		return nil, err
	}
	n := &Node{address: config.Address, worker: parts, links: config.links, done: make(chan struct{})}
	go n.watch() // lifecycle: ends with the worker.
	return n, nil
}

func rpcDial(address string, options []grpc.DialOption) func() (clientConn, error) {
	return func() (clientConn, error) { return rpc.DialHeads(address, options...) }
}

// dialThrough connects a worker to the heads that it learns of from the one in its process, which it reaches through memory at that one's
// own addresses: each way over a socket, a system call and the wake of a thread, would cost a task more than all else.
func dialThrough(local *bufconn.Listener, options []grpc.DialOption, own ...string) func() (clientConn, error) {
	return func() (clientConn, error) {
		return rpc.DialHeads(own[0], append(slices.Clone(options), grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			if slices.Contains(own, target) {
				return local.DialContext(ctx)
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", target)
		}))...)
	}
}

// patience is how long a worker waits for its head's first leader: for ever.
const patience = 100 * 365 * 24 * time.Hour

// stepOperators tells a head what the operators of the program make.
func stepOperators(registry *operator.Registry) jobplan.Operators {
	if registry == nil {
		registry = operator.Default
	}
	return registry.StepSchema
}

// startWorker starts a worker over a connection of its own.
func startWorker(ctx context.Context, config WorkerConfig, dial func() (clientConn, error)) (_ *workerParts, err error) {
	if isZero(config.Resources) {
		config.Resources = DefaultResources()
	}
	allowed, held, err := config.Secrets.parse()
	if err != nil {
		return nil, err
	}
	p := &workerParts{}
	if config.buckets == nil {
		p.buckets = newBuckets(config.Places, config.ObjectStore.DataDir) // They hold nothing before they are used.
		config.buckets = p.buckets
	}
	if p.models, err = newModels(config); err != nil {
		return nil, err
	}
	if p.conn, err = dial(); err != nil {
		return nil, errors.Join(err, cleanUp(ctx, p.models.close))
	}
	config.links.follow(p.conn)
	workerConfig := worker.Config{
		Conn: p.conn, ID: engine.NewNodeID(config.links.nodeName()), Resources: config.Resources, Labels: config.Labels, Models: p.models.here, Isolated: p.models.isolated, Allocator: config.Allocator,
		Version: config.Version, Logger: config.Logger, ProtocolVersion: config.ProtocolVersion,
		Operators: config.Operators, Storage: config.buckets, AllowedSecrets: allowed, SecretsHeld: held,
		Places: config.Places, OnlyIsolated: config.Isolation == IsolationAlways,
	}
	if p.models.executors != nil {
		workerConfig.Executors = p.models.executors
	}
	if !config.ObjectStore.Disabled {
		if p.objects, err = startObjects(ctx, config.ObjectStore, workerConfig.ID, p.conn, config.links, config.Places, config.Logger); err != nil {
			return nil, errors.Join(err, p.conn.Close(), cleanUp(ctx, p.models.close))
		}
		workerConfig.Store, workerConfig.Fetch, workerConfig.Evacuate = p.objects.store, p.objects.fetch, p.objects.evacuate
	}
	p.gossip = newWorkerGossip(config.Gossip, workerConfig.ID, config.ownGossip, config.links, config.Logger)
	workerConfig.Welcomed = p.gossip.welcomed
	if config.patient {
		workerConfig.ConnectTimeout = patience
	}
	if p.worker, err = worker.Start(workerConfig); err == nil && !config.patient {
		err = p.join(ctx, config.Address)
	}
	if err != nil {
		return nil, errors.Join(err, cleanUp(ctx, p.stop))
	}
	return p, nil
}

// join waits until the head knows the worker and what it has.
func (p *workerParts) join(ctx context.Context, address string) error {
	for _, joined := range []<-chan struct{}{p.worker.Joined(), p.objects.joined()} {
		if joined == nil {
			continue
		}
		select {
		case <-joined:
		case <-p.worker.Done():
			return p.worker.Err()
		case <-p.objects.done():
			return p.objects.err()
		case <-ctx.Done():
			return engine.WrapError("start worker", address, context.Cause(ctx))
		}
	}
	return nil
}

func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "node"
	}
	return host
}

// cleanUp stops what was started before a failure, which may be that ctx has ended.
func cleanUp(ctx context.Context, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return stop(ctx)
}

func isZero(r engine.Resources) bool {
	return r.CPU == 0 && r.GPU == 0 && r.MemoryBytes == 0 && r.GPUMemoryBytes == 0 && len(r.Custom) == 0
}

// stop ends the worker and frees what it stands on.
func (p *workerParts) stop(ctx context.Context) error {
	var err error
	if p.worker != nil {
		err = p.worker.Stop(ctx)
	}
	// A worker without a connection was cut off, as if it had died.
	err = errors.Join(err, p.gossip.stop(ctx, p.conn != nil), p.objects.stop(ctx))
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
	}
	if p.buckets != nil {
		err = errors.Join(err, p.buckets.close())
	}
	return errors.Join(err, p.models.close(ctx))
}

// watch closes done when a part ends by itself.
func (n *Node) watch() {
	var headDone, workerDone, objectsDone <-chan struct{}
	if n.head != nil {
		headDone = n.head.Done()
	}
	if n.worker != nil {
		workerDone, objectsDone = n.worker.worker.Done(), n.worker.objects.done()
	}
	select {
	case <-headDone:
	case <-workerDone:
		if n.head != nil && n.worker.worker.Drained() {
			// The head goes on without it.
			<-headDone
		}
	case <-objectsDone:
	}
	close(n.done)
}

// Address is the head's gRPC address.
func (n *Node) Address() string { return n.address }

// Web is the head's web address, such as "http://127.0.0.1:8265", or empty.
func (n *Node) Web() string { return n.web }

// ID is the worker's id in the cluster, or empty for a head without a worker.
func (n *Node) ID() engine.NodeID {
	if n.worker == nil {
		return ""
	}
	return n.worker.worker.ID()
}

// Socket is the path of the unix socket of the worker's object store, or empty if it has none.
func (n *Node) Socket() string {
	if n.worker == nil {
		return ""
	}
	return n.worker.objects.socket()
}

// Flight is the "host:port" of the worker's Arrow Flight service, or empty if it has none.
func (n *Node) Flight() string {
	if n.worker == nil {
		return ""
	}
	return n.worker.objects.flight()
}

// Encrypted tells whether the node's links have TLS.
func (n *Node) Encrypted() bool { return n.links != nil }

// Done is closed when the node has ended by itself or by Stop; Err then says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns the failure that ended the node, or nil.
func (n *Node) Err() error {
	var err error
	if n.head != nil {
		err = n.head.Err()
	}
	if n.worker != nil {
		err = errors.Join(err, n.worker.worker.Err(), n.worker.objects.err())
	}
	return err
}

// Drained reports whether the worker has left because somebody has had the head drain it. A head beside it goes on.
func (n *Node) Drained() bool { return n.worker != nil && n.worker.worker.Drained() }

// Drain lets the worker finish what it holds, takes nothing new, has the objects that it alone has moved to other nodes, and returns then
// or when ctx ends. The error says what could not be done; Stop ends the node all the same.
func (n *Node) Drain(ctx context.Context) error {
	if n.worker == nil {
		return nil
	}
	if err := n.worker.worker.Drain(ctx); err != nil {
		return err
	}
	return n.worker.objects.evacuate(ctx)
}

// Stop ends the node. Tasks that run are given back to the head; a head's jobs stay, durable, for its next start. What is not done
// when ctx ends is cut off.
func (n *Node) Stop(ctx context.Context) error {
	var err error
	if n.worker != nil {
		err = n.worker.stop(ctx)
	}
	if n.head != nil {
		err = errors.Join(err, n.head.Stop(ctx), n.buckets.close())
	}
	return errors.Join(err, n.links.stop(ctx))
}

// Abort ends the node as its death would: without a goodbye to the head, or to other heads, which have to find out. It is for tests.
func (n *Node) Abort(ctx context.Context) error {
	if n.worker != nil {
		// Without its connection the worker cannot say goodbye.
		if err := n.worker.conn.Close(); err != nil {
			return engine.WrapError("abort node", n.address, err)
		}
		n.worker.conn = nil
	}
	if n.head != nil {
		err := n.head.Abort(ctx)
		if n.worker != nil {
			err = errors.Join(err, n.worker.stop(ctx))
		}
		return errors.Join(err, n.buckets.close(), n.links.stop(ctx))
	}
	return n.Stop(ctx)
}

// BreakConnections closes every connection of TLS that the node has, as the end of its certificate would. It is for tests.
func (n *Node) BreakConnections() {
	if n.links != nil {
		n.links.identity.BreakConnections()
	}
}

// Leads tells whether the node's head leads its cluster.
func (n *Node) Leads() bool { return n.head != nil && n.head.Leads() }

// Dial returns a client of the node's head.
func (n *Node) Dial(ctx context.Context) (*client.Client, error) {
	if n.links == nil {
		return client.Dial(ctx, n.address)
	}
	return client.Dial(ctx, n.address, client.WithTLS(n.links.identity))
}

// DialOptions are those of connections to the Flight services of the cluster, for programs in the process of a node.
func (n *Node) DialOptions() []grpc.DialOption {
	if n.links == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(n.links.identity.ClientCredentials(pki.RoleWorker, pki.RoleHead))}
}

// CheckAddress refuses the "host:port" of a head that is not on loopback, or a list with one, before anything is sent there. A name that
// cannot be looked up is left to the connection, which says so.
func CheckAddress(ctx context.Context, list string) error {
	addresses, err := rpc.SplitAddresses(list)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if err := checkAddress(ctx, address); err != nil {
			return err
		}
	}
	return nil
}

func checkAddress(ctx context.Context, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "connect", address, "%w", err).WithHint("write HOST:PORT")
	}
	if net.ParseIP(host) == nil {
		if _, err := net.DefaultResolver.LookupIPAddr(ctx, host); err != nil {
			return nil //nolint:nilerr // See above.
		}
	}
	return engine.WrapError("connect", address, CheckHost(ctx, host))
}

// CheckHost refuses an address that is not loopback. Until every link has an identity, the engine serves one machine alone: an
// open head would let anybody read and write files as its user.
func CheckHost(ctx context.Context, host string) error {
	refuse := func(what string) error {
		return engine.Errorf(engine.KindInvalidArgument, "listen", host, "%s, and links are neither encrypted nor authenticated yet", what).
			WithHint("use 127.0.0.1: other hosts can join when every link has TLS and an identity")
	}
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return refuse("the address is not loopback")
		}
		return nil
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "listen", host, "%w", err)
	}
	for _, address := range addresses {
		if !address.IP.IsLoopback() {
			return refuse("the name stands for " + address.IP.String() + ", which is not loopback")
		}
	}
	return nil
}

func listen(ctx context.Context, what, host string, port int) (net.Listener, error) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, engine.Errorf(engine.KindConflict, "listen for "+what, address, "%w", err).
			WithHint("is another head running? `engine stop` stops it; port 0 picks a free one")
	}
	return listener, nil
}
