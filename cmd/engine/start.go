package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/telemetry/export"
	"github.com/f708428e/engine/node"
)

type startFlags struct {
	head                   bool
	access                 string
	requireToken           bool
	join                   string
	host                   string
	port, webPort          int
	dataDir                string
	block                  bool
	cpus, gpus             float64
	memory, custom         string
	labels                 map[string]string
	onnxRuntime, logLevel  string
	isolation              string
	storeMemory, spill     string
	flightPort             int
	eventLog, eventLogKeep string
	flightPortGiven        bool
	gossipPort             int
	gossipPortGiven        bool
	secretsKey             string
	allowSecrets           []string
	readyDescriptor        int
	lockDescriptor         int
	cpusChanged, gpusGiven bool
	isolationGiven         bool
	guard                  guardFlags
	links                  linkFlags
	hostGiven              bool
}

// startView is what start prints when the node is ready, and what a node in the background tells the command that started it.
type startView struct {
	Address string `json:"address"`
	Web     string `json:"web"`
	Flight  string `json:"flight"`
	// TLS says that the links are encrypted.
	TLS     bool   `json:"tls"`
	PID     int    `json:"pid"`
	DataDir string `json:"data_dir"`
	// Join is how other machines join a head that they reach; nil for others.
	Join *joinView `json:"join,omitempty"`
}

func (a *app) startCommand() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start (--head | --address HOST:PORT)",
		Short: "Start a node of a cluster: a head, or a worker",
		Long: `Start --head starts a head and, unless --num-cpus is 0, a worker beside it. Start --address starts a worker of the head at that
address. The command returns when the node is ready, and the node stays in the background; with --block it stays in the foreground.

A node has a data folder for itself: --data-dir, by default engine/head in the user's cache folder, and for workers the first of
engine/worker-1, engine/worker-2, … that no node uses. It holds the head's durable state, engine.pid, and engine.log, the log of a
node in the background. engine stop ends the node of a data folder.

With --join the head becomes one of the cluster of other heads: they keep the same durable state, one of them leads, and another one
takes over when that ends. Three heads go on while any two of them do. The head keeps in its data folder where it belongs, so that it
needs --join only the first time. Clients and workers find the head that leads by themselves.

On loopback, which is the default, a cluster needs nothing else, and is this user's alone. With another --host a head makes an authority and
certificates in its data folder, has TLS 1.3 on every port, and prints the command by which another machine joins, with a token that ends
after an hour; engine node token makes further ones. A worker that has joined renews its certificate by itself until engine node revoke.
With --tls-ca, --tls-cert, and --tls-key a node has certificates of an authority of yours instead, and reads them again when they change:
each has the name engine://cluster/NAME/role/head/name/NODE, or role/worker, among its subject alternative names.`,
		Example: `  engine start --head
  engine start --head --port 0 --web-port 0 --data-dir state --block -o json
  engine start --head --port 10011 --web-port 0 --data-dir head-2 --join 127.0.0.1:10001
  engine start --address 127.0.0.1:10001 --num-cpus 4 --labels zone=a
  engine start --head --host 0.0.0.0
  engine start --address head.example:10001 --token engine-join-1.…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.cpusChanged, f.gpusGiven = cmd.Flags().Changed("num-cpus"), cmd.Flags().Changed("num-gpus")
			f.flightPortGiven, f.gossipPortGiven = cmd.Flags().Changed("flight-port"), cmd.Flags().Changed("gossip-port")
			f.isolationGiven = cmd.Flags().Changed("isolation")
			f.hostGiven = cmd.Flags().Changed("host")
			addressGiven := cmd.Flags().Changed("address")
			if env, ok := a.env(addressEnv); !f.head && ok && env != "" {
				addressGiven = true
			}
			switch {
			case f.head && addressGiven:
				return usagef("start: --head and --address exclude each other")
			case !f.head && f.join != "":
				return usagef("start: --join is for a head; a worker says --address %s", f.join)
			case !f.head && f.secretsKey != "":
				return usagef("start: --secrets-key is for a head")
			case !f.head && !addressGiven:
				return usagef("start: say --head for a head or --address HOST:PORT for a worker")
			}
			if err := f.accessFile(); err != nil {
				return err
			}
			return a.start(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.head, "head", false, "start a head")
	flags.StringVar(&f.join, "join", "", "make the head one of the cluster of the head at `HOST:PORT`, or of several, separated by commas")
	flags.StringVar(&f.host, "host", "127.0.0.1", "the `ADDRESS` that the node listens on: 0.0.0.0 is all of this machine's; a worker's default is that from which it reaches its head")
	flags.IntVar(&f.port, "port", node.DefaultPort, "the head's gRPC `PORT`; 0 picks a free one")
	flags.IntVar(&f.webPort, "web-port", node.DefaultWebPort, "the head's web `PORT`; 0 picks a free one, -1 means none")
	flags.StringVar(&f.access, "access", "", "a YAML `FILE` of whom the head believes beside its own tokens and certificates (oidc), and of what each caller may take (limits)")
	flags.BoolVar(&f.requireToken, "require-token", false, "have you, too, show a token over loopback, to the head and to the worker's Arrow Flight: make one for an admin first")
	flags.StringVar(&f.dataDir, "data-dir", "", "the `FOLDER` of the node; default: a folder in the user's cache")
	flags.BoolVar(&f.block, "block", false, "stay in the foreground")
	flags.Float64Var(&f.cpus, "num-cpus", 0, "the cores that the worker offers, `N`; default: those that this process may use; 0 with --head: no worker")
	flags.Float64Var(&f.gpus, "num-gpus", 0, "the GPUs that the worker offers, `N`; default: those that CUDA sees")
	flags.StringVar(&f.memory, "memory", "", "the memory that the worker offers, a `SIZE` such as 8GiB; default: that of the machine or its cgroup")
	flags.StringVar(&f.custom, "resources", "", `further resources that the worker offers, as `+"`JSON`"+` such as '{"license": 2}'`)
	flags.StringToStringVar(&f.labels, "labels", nil, "labels of the worker, `KEY=VALUE` pairs separated by commas")
	flags.StringVar(&f.storeMemory, "object-store-memory", "", "the shared memory of the worker's object store, a `SIZE` such as 8GiB; default: 30% of the machine's or its cgroup's")
	flags.StringVar(&f.spill, "spill", "", "where objects go when that is full, a folder or s3://bucket/prefix as `URI`; default: the folder spill in the data folder")
	flags.IntVar(&f.flightPort, "flight-port", node.DefaultFlightPort, "the worker's Arrow Flight `PORT`; 0 picks a free one, as does the default if it is taken")
	flags.IntVar(&f.gossipPort, "gossip-port", node.DefaultGossipPort, "the `PORT` by which a head hears early that a worker may be gone, UDP and TCP; 0 picks a free one, as does the default if it is taken, -1 means none")
	flags.StringVar(&f.eventLog, "event-log", "", "where a head keeps the history of the cluster, a folder or s3://bucket/prefix as `URI`; none keeps none; default: the folder events in the data folder")
	flags.StringVar(&f.eventLogKeep, "event-log-keep", "30d", "how long it is kept, a `DURATION` such as 12h or 30d; 0 means for ever")
	flags.StringArrayVar(&f.allowSecrets, "allow-secret", nil, allowSecretUsage)
	flags.StringVar(&f.secretsKey, "secrets-key", "", secretsKeyUsage)
	flags.StringVar(&f.onnxRuntime, "onnxruntime", "", onnxRuntimeUsage)
	flags.StringVar(&f.isolation, "isolation", node.DefaultIsolation(), "where models run of jobs that do not say, `process|always|none`: in executors, processes of their own; there whatever a job says, which is the default of a node that serves other machines; or in the worker's")
	f.guard.add(flags)
	f.links.add(flags)
	flags.StringVar(&f.logLevel, "log-level", "info", "log from this `LEVEL` on: debug, info, warn, error")
	flags.IntVar(&f.readyDescriptor, "ready-descriptor", 0, "")
	flags.IntVar(&f.lockDescriptor, "lock-descriptor", 0, "")
	for _, name := range []string{"ready-descriptor", "lock-descriptor"} {
		_ = flags.MarkHidden(name) // the flag exists
	}
	return cmd
}

// resources are what the worker offers.
func (f startFlags) resources() (engine.Resources, error) {
	r := node.DefaultResources()
	if f.cpusChanged {
		r.CPU = f.cpus
	}
	if f.gpusGiven {
		node.SetGPUs(&r, f.gpus)
	}
	if f.memory != "" {
		bytes, err := engine.ParseSize(f.memory)
		if err != nil {
			return r, usagef("--memory: %w", err)
		}
		r.MemoryBytes = bytes
	}
	if f.custom != "" {
		if err := json.Unmarshal([]byte(f.custom), &r.Custom); err != nil {
			return r, usagef(`--resources: expected a JSON object of numbers such as {"license": 2}, found %q`, f.custom)
		}
	}
	return r, usage(r.Validate())
}

// minStoreBytes is the smallest store that is of use.
const minStoreBytes = 1 << 20

// objectStore is how the worker keeps objects.
func (f startFlags) objectStore(dataDir string) (node.ObjectStoreConfig, error) {
	config := node.ObjectStoreConfig{DataDir: dataDir, TokensOnly: f.requireToken}
	if f.storeMemory != "" {
		bytes, err := engine.ParseSize(f.storeMemory)
		switch {
		case err != nil:
			return config, usagef("--object-store-memory: %w", err)
		case bytes < minStoreBytes:
			return config, usagef("--object-store-memory %s: expected at least %s", f.storeMemory, engine.FormatSize(minStoreBytes))
		}
		config.MemoryBytes = bytes
	}
	if f.spill != "" {
		spill, err := storagePlace(f.spill)
		if err != nil {
			return config, err
		}
		config.Spill = spill
	}
	switch {
	case f.flightPort < 0 || f.flightPort > 65535:
		return config, usagef("--flight-port %d: expected a port", f.flightPort)
	case f.flightPortGiven && f.flightPort == 0:
		config.FlightPort = -1
	case f.flightPortGiven:
		config.FlightPort = f.flightPort
	}
	return config, nil
}

// gossip is how the node takes part in the gossip.
func (f startFlags) gossip() (node.GossipConfig, error) {
	switch {
	case f.gossipPort < -1 || f.gossipPort > 65535:
		return node.GossipConfig{}, usagef("--gossip-port %d: expected a port, or -1 for none", f.gossipPort)
	case f.gossipPort == -1:
		return node.GossipConfig{Disabled: true}, nil
	case f.gossipPortGiven && f.gossipPort == 0:
		return node.GossipConfig{Port: -1}, nil
	case f.gossipPortGiven:
		return node.GossipConfig{Port: f.gossipPort}, nil
	default:
		return node.GossipConfig{}, nil
	}
}

// history returns where the event log goes, and how long it is kept, as node.HeadConfig has them.
func (f startFlags) history(dataDir string) (place string, keep time.Duration, err error) {
	if keep, err = jobplan.ParseDuration(f.eventLogKeep); err != nil && f.eventLogKeep != "0" || keep < 0 {
		return "", 0, usagef("--event-log-keep %s: expected a duration such as 12h or 30d, or 0", f.eventLogKeep)
	}
	if keep == 0 {
		keep = -1
	}
	switch f.eventLog {
	case "none":
		return "", keep, nil
	case "":
		place, err = filepath.Abs(filepath.Join(dataDir, eventsFolder))
		return place, keep, engine.WrapError("find data folder", dataDir, err)
	default:
		place, err = storagePlace(f.eventLog)
		return place, keep, err
	}
}

// eventsFolder is the event log's folder in a head's data folder.
const eventsFolder = "events"

func (f startFlags) role() string {
	if f.head {
		return "head"
	}
	return "worker"
}

func (a *app) start(ctx context.Context, f startFlags) error {
	resources, err := f.resources()
	if err != nil {
		return err
	}
	for name, port := range map[string]int{"--port": f.port, "--web-port": f.webPort} {
		if port > 65535 || port < -1 || port < 0 && name == "--port" {
			return usagef("%s %d: expected a port", name, port)
		}
	}
	if _, err := f.objectStore(""); err != nil {
		return err
	}
	if _, _, err := f.history(""); err != nil {
		return err
	}
	if _, err := f.gossip(); err != nil {
		return err
	}
	if f, err = f.checkSecrets(); err != nil {
		return err
	}
	if err := f.guard.check(); err != nil {
		return err
	}
	if f.links.insecure && !f.block { // With it, the log says so in the same place.
		fmt.Fprintln(a.stderr, "warning: --insecure: links to other machines are in clear text: whoever is in between reads and changes what they carry, tokens included")
	}
	logger, err := newLogger(&logWriter{out: a.stderr}, f.logLevel)
	if err != nil {
		return usage(err)
	}
	if f.links, err = f.links.check(a, f.head); err != nil {
		return err
	}
	folder, err := a.claimNodeFolder(ctx, f)
	if err != nil {
		return err
	}
	defer folder.release()
	if !f.block {
		return a.startInBackground(ctx, f, folder)
	}
	view, err := a.serve(ctx, f, folder, resources, logger)
	if f.readyDescriptor != 0 && view == nil {
		tellParent(f.readyDescriptor, readiness{Error: viewError(err), Code: a.exitCode(err)})
	}
	return err
}

// serve runs the node in the foreground until it is told to end. The view is nil if it never was ready.
func (a *app) serve(ctx context.Context, f startFlags, folder *dataFolder, resources engine.Resources, logger *slog.Logger) (*startView, error) {
	signals, ignore := a.signals()
	defer ignore()
	stopSpans, err := sendSpans(ctx, logger)
	if err != nil {
		return nil, err
	}
	defer stopSpans()
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	type started struct {
		node *node.Node
		err  error
	}
	ready := make(chan started, 1)
	go func() { // lifecycle: ends with starting; its result is always awaited.
		n, err := a.startNode(starting, f, folder.path, resources, logger)
		ready <- started{n, err}
	}()
	var n *node.Node
	select {
	case s := <-ready:
		if s.err != nil {
			return nil, s.err
		}
		n = s.node
	case <-signals:
		cancel()
		if s := <-ready; s.err == nil {
			_ = stopNode(ctx, s.node) // it did nothing yet
		}
		return nil, &exitError{code: exitInterrupted, err: errors.New("interrupted before the node was ready")}
	}
	join, err := joinOf(ctx, n)
	if err != nil {
		logger.WarnContext(ctx, "there is no token to join with yet: `engine node token` makes one", "error", err)
	}
	view := &startView{Join: join, Address: n.Address(), Web: n.Web(), Flight: n.Flight(), TLS: n.Encrypted(), PID: os.Getpid(), DataDir: folder.path}
	err = folder.record(f.role(), n.Address(), a.now())
	if err == nil {
		logger.InfoContext(ctx, "the node is ready", "role", f.role(), "address", view.Address, "web", view.Web, "flight", view.Flight, "node", string(n.ID()), "pid", view.PID)
		err = a.announce(f, view)
	}
	if err != nil {
		return view, errors.Join(err, stopNode(ctx, n))
	}
	// What starting needed is garbage soon after: connections are up, the models' library is loaded.
	defer time.AfterFunc(settleTime, giveBackMemory).Stop()
	select {
	case <-n.Done():
		err := n.Err()
		switch {
		case err != nil:
		case n.Drained():
			logger.InfoContext(ctx, "the node was drained and has left", "role", f.role())
		default:
			err = engine.Errorf(engine.KindInternal, f.role(), "", "ended by itself")
		}
		return view, errors.Join(err, stopNode(ctx, n))
	case <-signals:
	}
	return view, a.end(ctx, f, n, signals, logger)
}

// sendSpans sends the process's spans to the collector that the environment names, if it does, until stop is called.
func sendSpans(ctx context.Context, logger *slog.Logger) (stop func(), err error) {
	shut, err := export.Start(ctx, version)
	if err != nil {
		return nil, usage(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendWithin)
		defer cancel()
		if err := shut(ctx); err != nil {
			logger.WarnContext(ctx, "the last spans could not be sent", "error", err)
		}
	}, nil
}

// sendWithin is how long a collector may take for what is left in the end.
const sendWithin = 3 * time.Second

// end stops the node. A worker first finishes what it holds, until a second signal; a third ends the process at once.
func (a *app) end(ctx context.Context, f startFlags, n *node.Node, signals <-chan os.Signal, logger *slog.Logger) error {
	stopped := make(chan error, 1)
	cut, cancel := context.WithCancel(ctx)
	defer cancel()
	logger.InfoContext(ctx, "the node stops", "role", f.role())
	go func() { // lifecycle: its result is awaited, or the process ends.
		if !f.head {
			if err := n.Drain(cut); err != nil && cut.Err() == nil {
				logger.WarnContext(ctx, "draining failed", "error", err)
			}
		}
		stopped <- stopNode(ctx, n)
	}()
	for interrupts := 1; ; {
		select {
		case err := <-stopped:
			if err == nil {
				logger.InfoContext(ctx, "the node has stopped", "role", f.role())
			}
			return err
		case <-signals:
			if interrupts++; interrupts > 2 {
				a.exitNow(exitInterrupted)
				return &exitError{code: exitInterrupted}
			}
			cancel()
		}
	}
}

func stopNode(ctx context.Context, n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return n.Stop(ctx)
}

// settleTime is how long after its start a node gives back what only starting needed.
const settleTime = 2 * time.Second

// giveBackMemory returns to the system what the process holds and does not use.
func giveBackMemory() {
	debug.FreeOSMemory()
	unmapUnused()
}

// joinWithin is how long a worker tries to join a head that it can reach.
const joinWithin = 30 * time.Second

func (a *app) startNode(ctx context.Context, f startFlags, dataDir string, resources engine.Resources, logger *slog.Logger) (*node.Node, error) {
	objects, err := f.objectStore(dataDir)
	if err != nil {
		return nil, err
	}
	gossip, err := f.gossip()
	if err != nil {
		return nil, err
	}
	shared := f.shared(ctx, a, dataDir)
	policy, err := f.places(a, shared, dataDir)
	if err != nil {
		return nil, err
	}
	if shared && !f.isolationGiven && f.isolation == "process" {
		f.isolation = node.IsolationAlways
	}
	host := f.host
	if !f.head && !f.hostGiven {
		host = ""
	}
	links, err := f.links.config(a.tls, dataDir, host)
	if err != nil {
		return nil, err
	}
	w := node.WorkerConfig{
		TLS:    links,
		Places: policy, Address: a.address, Gossip: gossip, Resources: resources, Labels: f.labels, ONNXRuntime: f.onnxRuntime, Isolation: f.isolation,
		Version: version, Logger: logger, ObjectStore: objects, Secrets: f.secrets(), ClaimCgroup: true,
	}
	if err := f.guard.apply(&w); err != nil {
		return nil, err
	}
	if f.head {
		events, keep, err := f.history(dataDir)
		if err != nil {
			return nil, err
		}
		worker := &w
		if f.cpusChanged && f.cpus == 0 {
			worker = nil
		}
		callers, err := f.callers(ctx, logger)
		if err != nil {
			return nil, err
		}
		return node.StartHead(ctx, node.HeadConfig{
			TLS:  links,
			Host: f.host, Port: f.port, WebPort: f.webPort, Gossip: gossip, DataDir: dataDir, Join: f.join, EventLog: events, EventLogKeep: keep, Version: version, Logger: logger,
			Secrets: f.secrets(), SecretsKey: f.secretsKey, Places: policy, Access: callers,
		}, worker)
	}
	if !links.ForWorker(ctx, a.address) {
		// A worker goes on trying to reach its head, as it should once it runs. At the start a wrong address is more likely.
		c, err := a.connect(ctx)
		if err != nil {
			return nil, err
		}
		_, err = c.Cluster(ctx)
		if err := errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	return node.StartWorker(ctx, w)
}

// announce says that the node is ready: to the command that waits for it, or to the user.
func (a *app) announce(f startFlags, view *startView) error {
	if f.readyDescriptor != 0 {
		tellParent(f.readyDescriptor, readiness{Ready: view})
		return nil
	}
	return a.printStarted(f, *view)
}

func (a *app) printStarted(f startFlags, view startView) error {
	return a.print(view, func(w io.Writer) error {
		text := fmt.Sprintf("the %s is ready at %s\n", f.role(), view.Address)
		if !f.head {
			text = fmt.Sprintf("the worker is ready; its head is %s\n", view.Address)
		}
		if view.Web != "" {
			text += "  web       " + view.Web + "\n"
		}
		if view.Flight != "" {
			text += "  flight    " + flightURI(view.Flight, view.TLS) + "\n"
		}
		text += fmt.Sprintf("  pid       %d\n  data      %s\n", view.PID, view.DataDir)
		if f.head && !a.quiet {
			text += fmt.Sprintf("  submit    engine submit JOB.yaml --address %[1]s\n  a worker  engine start --address %[1]s\n  stop      engine stop --data-dir %[2]s\n",
				view.Address, view.DataDir)
		}
		if view.Join != nil {
			text += view.Join.text()
		}
		_, err := io.WriteString(w, text)
		return engine.WrapError("print", "", err)
	})
}

// flightURI is how Arrow Flight's clients name a service at a "host:port".
func flightURI(address string, secure bool) string {
	if secure {
		return "grpc+tls://" + address
	}
	return "grpc://" + address
}

// claimNodeFolder takes the node's data folder, or the one that the command in the foreground has taken already.
func (a *app) claimNodeFolder(ctx context.Context, f startFlags) (*dataFolder, error) {
	if f.lockDescriptor != 0 {
		syscall.CloseOnExec(f.lockDescriptor)
		return &dataFolder{path: f.dataDir, lock: os.NewFile(uintptr(f.lockDescriptor), filepath.Join(f.dataDir, pidFile))}, nil
	}
	if f.dataDir != "" {
		return claimFolder(ctx, f.dataDir)
	}
	cache, err := a.cacheDir()
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("--data-dir names a folder")
	}
	if f.head {
		return claimFolder(ctx, filepath.Join(cache, "engine", "head"))
	}
	const most = 1000
	for i := 1; ; i++ {
		folder, err := claimFolder(ctx, filepath.Join(cache, "engine", "worker-"+strconv.Itoa(i)))
		if err == nil || engine.KindOf(err) != engine.KindConflict || i == most {
			return folder, err
		}
	}
}
