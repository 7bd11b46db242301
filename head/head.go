// Package head accepts jobs, keeps them durable, and drives the workers. It only assembles: head/state remembers, head/jobs drives
// each job, head/dispatch decides which worker holds which task, head/objects knows which store has which object, head/api adapts them
// to gRPC, head/web to HTTP.
package head

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/jobs"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/web"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config is what a head is made of.
type Config struct {
	// DataDir keeps the durable state and the jobs' logs. One head at a time may use it. Required.
	DataDir string
	// Listener takes gRPC connections; the head closes it. Required.
	Listener net.Listener
	// WebListener takes HTTP connections; the head closes it. Nil means no web port.
	WebListener net.Listener
	// Version is the program's version, for people.
	Version string
	// Logger is required.
	Logger *slog.Logger
	// Dispatch holds leases' times; its ClusterID and Term are set by the head.
	Dispatch dispatch.Config
	// Jobs bounds what is kept and done at a time; its AssignDelay is set by the head.
	Jobs jobs.Config
	// Embedded says that the head and its only worker live and die together: nobody can hold a lease of an earlier term, and a request
	// that the worker cannot meet fails the job at once.
	Embedded bool
}

// Head is a running head.
type Head struct {
	config Config
	store  *state.Store
	// manager's jobs run in the group jobs, everything else in serve.
	manager *jobs.Manager
	jobs    *lifecycle.Group
	serve   *lifecycle.Group
	grpc    *grpc.Server
	http    *http.Server
	ready   atomic.Bool
}

// Start reads the state, takes up unfinished jobs, and serves. The head runs until Stop.
func Start(config Config) (_ *Head, err error) {
	store, err := state.Open(state.Config{Dir: config.DataDir, NewClusterID: string(engine.NewJobID(time.Now())), Trouble: func(err error) {
		config.Logger.Warn("the head's log could not be compacted", "error", err)
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	if torn := store.TornBytes(); torn > 0 {
		config.Logger.Warn("an unfinished record was cut off the log's end; it was never acknowledged", "bytes", torn)
	}
	if refused := store.RefusedEntries(); refused > 0 {
		config.Logger.Warn("the log holds entries that contradict others; they were refused when they were written, and changed nothing", "entries", refused)
	}
	h := &Head{
		config: config, store: store,
		jobs: lifecycle.NewGroup(context.Background(), "jobs"), serve: lifecycle.NewGroup(context.Background(), "head"),
	}
	logs := joblog.New(filepath.Join(config.DataDir, "logs"))
	dispatchConfig, jobsConfig := config.Dispatch, config.Jobs
	store.View(func(s *state.State) { dispatchConfig.ClusterID, dispatchConfig.Term = s.ClusterID, s.Term })
	dispatchConfig.FailInfeasible = config.Embedded
	if !config.Embedded && dispatchConfig.Term > 1 {
		jobsConfig.AssignDelay = dispatchConfig.LeaseTimeOrDefault()
	}
	// An embedded cluster's store begins empty in every term, so there is nothing to learn of earlier ones.
	directoryTerm := dispatchConfig.Term
	if config.Embedded {
		directoryTerm = 1
	}
	directory := objects.NewDirectory(objects.Config{
		ClusterID: dispatchConfig.ClusterID, Term: directoryTerm, LeaseTime: dispatchConfig.LeaseTimeOrDefault(),
		Known: func(owner engine.ObjectOwner) bool { return h.manager.KnowsOwner(owner) },
	}, config.Logger, nil)
	jobsConfig.Objects, jobsConfig.Ephemeral = directory, config.Embedded
	h.manager = jobs.New(jobsConfig, store, logs, h.jobs, config.Logger)
	dispatcher := dispatch.NewDispatcher(dispatchConfig, h.manager.Hooks(), nil)
	h.manager.Attach(dispatcher)

	h.grpc = rpc.NewServer(config.Logger)
	webAddress := ""
	if config.WebListener != nil {
		webAddress = "http://" + config.WebListener.Addr().String()
		h.http = web.NewServer(web.Handler(h.ready.Load))
	}
	enginev1.RegisterJobServiceServer(h.grpc, api.NewJobs(store, h.manager))
	enginev1.RegisterClusterServiceServer(h.grpc, api.NewCluster(store, dispatcher, config.Version, webAddress, time.Now()))
	enginev1.RegisterWorkerServiceServer(h.grpc, api.NewWorkers(store, dispatcher, directory, logs, config.Logger))
	enginev1.RegisterObjectServiceServer(h.grpc, api.NewObjects(directory))
	h.serve.Go("tick", dispatcher.Run)
	h.serve.Go("objects", directory.Run)
	h.serve.Go("grpc", func(context.Context) error { return h.grpc.Serve(config.Listener) })
	if h.http != nil {
		h.serve.Go("web", func(context.Context) error {
			if err := h.http.Serve(config.WebListener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve web port: %w", err)
			}
			return nil
		})
	}
	h.ready.Store(true)
	return h, nil
}

// Done is closed when the head ends by itself or by Stop; Err then says why.
func (h *Head) Done() <-chan struct{} { return h.serve.Done() }

// Err returns the failure that ended the head, or nil.
func (h *Head) Err() error { return h.serve.Err() }

// Stop ends the head. Jobs that have not ended stay as they are, durable, for the next head of the data folder. What is not done
// when ctx ends is cut off.
func (h *Head) Stop(ctx context.Context) error {
	h.ready.Store(false)
	h.manager.Close()
	err := h.jobs.Stop(ctx)
	stopped := make(chan struct{})
	go func() { // lifecycle: ends at the latest with Stop of the server below.
		defer close(stopped)
		h.grpc.GracefulStop()
	}()
	// Streams to workers and watchers never end by themselves.
	select {
	case <-stopped:
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	h.grpc.Stop()
	<-stopped
	if h.http != nil {
		err = errors.Join(err, h.http.Close())
	}
	return errors.Join(err, h.serve.Stop(ctx), h.store.Close())
}
