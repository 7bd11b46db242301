package node

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/head"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/internal/rpc"
)

// EmbeddedConfig is what an embedded cluster is made of.
type EmbeddedConfig struct {
	// DataDir keeps the durable state. Required.
	DataDir string
	// Worker is the one worker; its Address is not used.
	Worker WorkerConfig
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// TargetSplitBytes is how large a split of the input should be. Zero means the planner's default.
	TargetSplitBytes int64
}

// Embedded is a head and a worker in this process that talk over memory instead of the network. The code is that of a cluster.
type Embedded struct {
	head    *head.Head
	worker  *workerParts
	buckets *buckets
	conn    clientConn
	client  *client.Client
}

// embeddedBuffer is how many bytes of a connection wait for their reader.
const embeddedBuffer = 1 << 20

// StartEmbedded starts the cluster and returns when the worker has joined. It runs until Stop.
func StartEmbedded(ctx context.Context, config EmbeddedConfig) (_ *Embedded, err error) {
	allowed, held, err := config.Worker.Secrets.parse()
	if err != nil {
		return nil, err
	}
	listener := bufconn.Listen(embeddedBuffer)
	e := &Embedded{buckets: newBuckets(config.Worker.Places, config.DataDir)}
	working := make(chan struct{}) // Closed once there is a worker: the jobs of an earlier run go on before.
	e.head, err = head.Start(ctx, head.Config{
		DataDir: config.DataDir, Listener: listener, Version: config.Version, Logger: config.Logger, Embedded: true,
		Jobs: jobs.Config{TargetSplitBytes: config.TargetSplitBytes, Storage: e.buckets, Operators: stepOperators(config.Worker.Operators), Places: config.Worker.Places,
			AllowedSecrets: allowed, SecretsHeld: held, OpenStores: func(ctx context.Context) error {
				select {
				case <-working:
					return e.worker.objects.open(ctx)
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}},
	})
	if err != nil {
		return nil, err
	}
	dial := func() (clientConn, error) {
		return rpc.Dial("passthrough:///embedded", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	}
	config.Worker.buckets = e.buckets
	config.Worker.ObjectStore.private, config.Worker.Gossip.Disabled = true, true
	if e.worker, err = startWorker(ctx, config.Worker, dial); err != nil {
		return nil, errors.Join(err, cleanUp(ctx, e.head.Stop))
	}
	close(working)
	if e.conn, err = dial(); err != nil {
		return nil, errors.Join(err, cleanUp(ctx, e.worker.stop), cleanUp(ctx, e.head.Stop))
	}
	e.client = client.New(e.conn)
	return e, nil
}

// Client returns a client of the cluster, which lives as long as it.
func (e *Embedded) Client() *client.Client { return e.client }

// Stop ends the cluster. Jobs that have not ended stay, durable, for the next start with the same data folder.
func (e *Embedded) Stop(ctx context.Context) error {
	return errors.Join(e.client.Close(), e.conn.Close(), e.worker.stop(ctx), e.head.Stop(ctx), e.buckets.close())
}
