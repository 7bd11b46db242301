// Package worker runs tasks: it keeps one stream to the head, holds the leases that the head grants, and publishes each task's
// output once. sync.go speaks the protocol, table.go holds what the worker has, attempt.go runs one attempt,
// output.go is where its part goes. The tasks of clients are package worker/tasks; taskstep.go has the operators that every worker
// offers to them.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker/tasks"
)

// Config is what a worker is made of.
type Config struct {
	// Conn is the connection to the head; its owner closes it after the worker has stopped. Required.
	Conn grpc.ClientConnInterface
	// ID is the worker's id in the cluster, which no worker may have had before. Empty means a new one, of the host's name.
	ID engine.NodeID
	// Resources is what the worker offers. Required.
	Resources engine.Resources
	// Labels are told to the head.
	Labels map[string]string
	// Models loads what the tasks' models need; its owner closes it after the worker has stopped. Required.
	Models runtime.Loader
	// Executors loads them into processes of their own; its owner closes it after the worker has stopped. Nil means that there are none:
	// jobs that ask for them fail here.
	Executors runtime.Loader
	// Isolated says that models are loaded by Executors where a job does not say, and for the tasks of clients.
	Isolated bool
	// OnlyIsolated says that no other models are loaded: a job that asks for isolation none fails here.
	OnlyIsolated bool
	// Places says which places of this machine jobs and tasks may name. Nil allows all.
	Places jobplan.Places
	// Store returns the node's object store, whose owner closes it after the worker has stopped; it may open it first. Nil means that
	// there is none: tasks that read or write objects fail here.
	Store func(context.Context) (*objectstore.Store, error)
	// Fetch brings a copy of an object that is elsewhere into the store. Nil means that only what the store has can be read.
	Fetch func(context.Context, engine.ObjectID) error
	// Storage has the buckets that jobs read from and write to; its owner closes it after the worker has stopped. Nil means that there are
	// none: tasks that use one fail here.
	Storage jobplan.Storage
	// AllowedSecrets are the variables and files of this process that jobs may use as secrets.
	AllowedSecrets secret.Allowed
	// SecretsHeld is called before the worker holds a secret. It may be called often, and must not block. Nil means that nobody wants to know.
	SecretsHeld func()
	// ModelFolder is where graphs are kept that are made of models which have weights alone. Empty means the folder engine/models in
	// the user's cache folder.
	ModelFolder string
	// Operators are those that tasks of clients may name, beside the ones that every worker has; what is registered after Start does not
	// count. Nil means operator.Default.
	Operators *operator.Registry
	// Evacuate is called when the head has ordered a drain and all tasks have ended: it brings away what others still need of this
	// worker, which then leaves, whether that failed or not. It may block until ctx ends. Nil means that there is nothing.
	Evacuate func(context.Context) error
	// Welcomed is called with what the head says of itself when a stream to it begins. It must not block. Nil means that nobody wants to know.
	Welcomed func(*enginev1.HeadWelcome)
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// Allocator provides the memory of record batches. Nil means Go's heap.
	Allocator memory.Allocator
	// ProtocolVersion replaces rpc.WorkerProtocolVersion in tests of what happens when they differ. Zero means that.
	ProtocolVersion uint32
	// ConnectTimeout is how long the first connection may take before the worker gives up. Zero means 30 s. Once it has been
	// connected, it tries for ever.
	ConnectTimeout time.Duration
}

// Worker is a running worker. It is safe for concurrent use.
type Worker struct {
	config Config
	id     engine.NodeID
	client enginev1.WorkerServiceClient
	group  *lifecycle.Group
	tasks  *lifecycle.Group
	table  *table
	// granted are the tasks of clients; what else is called a task here belongs to jobs.
	granted *tasks.Tasks
	joined  chan struct{}
	once    sync.Once
	// draining begins the drain that the head orders, once; drained is set when the worker has left because of it.
	draining sync.Once
	drained  atomic.Bool
}

// Start begins to work for the head at the other end of the connection. The worker runs until Stop, or until the head refuses it
// for good; Done and Err tell.
func Start(config Config) (*Worker, error) {
	if err := config.Resources.Validate(); err != nil {
		return nil, err
	}
	if (config.Isolated || config.OnlyIsolated) && config.Executors == nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "start worker", string(config.ID), "models are to run in executors, and there are none")
	}
	if config.SecretsHeld == nil {
		config.SecretsHeld = func() {}
	}
	if config.Allocator == nil {
		config.Allocator = memory.DefaultAllocator
	}
	if config.ProtocolVersion == 0 {
		config.ProtocolVersion = rpc.WorkerProtocolVersion
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 30 * time.Second
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	if config.ID == "" {
		config.ID = engine.NewNodeID(host)
	}
	w := &Worker{
		config: config, id: config.ID,
		client: enginev1.NewWorkerServiceClient(config.Conn),
		group:  lifecycle.NewGroup(context.Background(), "worker"), tasks: lifecycle.NewGroup(context.Background(), "tasks"),
		table: newTable(), joined: make(chan struct{}),
	}
	w.table.secrets = w.secretsOf
	hello := &enginev1.WorkerHello{
		ProtocolVersion: config.ProtocolVersion, NodeId: string(w.id), Host: host, Pid: int64(os.Getpid()),
		Total: rpc.ResourcesToProto(config.Resources), Labels: config.Labels, Version: config.Version,
	}
	if config.Operators == nil {
		config.Operators = operator.Default
	}
	operators := config.Operators.Funcs()
	maps.Copy(operators, w.builtIn())
	hello.Operators = slices.Sorted(maps.Keys(operators))
	w.granted = tasks.New(tasks.Config{
		Node: w.id, Operators: operators, Total: config.Resources, Store: config.Store, Fetch: config.Fetch, Wake: w.table.signal, Logger: config.Logger,
	})
	w.group.Go("sync", func(ctx context.Context) error { return w.sync(ctx, hello) })
	return w, nil
}

// ID returns the worker's id in the cluster.
func (w *Worker) ID() engine.NodeID { return w.id }

// Joined is closed when the head has welcomed the worker for the first time.
func (w *Worker) Joined() <-chan struct{} { return w.joined }

// Done is closed when the worker ends by itself or by Stop; Err then says why.
func (w *Worker) Done() <-chan struct{} { return w.group.Done() }

// Err returns the failure that ended the worker, or nil.
func (w *Worker) Err() error { return w.group.Err() }

// Drain tells the head to grant nothing more, and waits until the worker holds nothing, and the head knows how everything ended, or ctx
// ends.
func (w *Worker) Drain(ctx context.Context) error {
	w.table.drain()
	for {
		empty, changed := w.table.idle()
		ended, told := w.granted.Idle()
		if empty && ended {
			return nil
		}
		select {
		case <-changed:
		case <-told:
		case <-w.group.Done():
			return nil
		case <-ctx.Done():
			return engine.WrapError("drain worker", string(w.id), context.Cause(ctx))
		}
	}
}

// Stop gives back what the worker holds, ends all tasks, and says goodbye to the head so that it need not wait for the leases to end. It
// blocks until ctx ends at the longest, and for one second more if the head is slow to answer. Call Drain first to let tasks finish.
func (w *Worker) Stop(ctx context.Context) error {
	w.table.dropAll()
	w.granted.Drop()
	err := errors.Join(w.tasks.Stop(ctx), w.granted.Stop(ctx))
	w.sayGoodbye(context.WithoutCancel(ctx), goodbyeWithin)
	if stopErr := w.group.Stop(ctx); stopErr != nil && err == nil {
		err = stopErr
	}
	return err
}
