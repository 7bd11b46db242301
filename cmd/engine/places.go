package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/internal/security/places"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/process"
)

// guardFlags say what jobs may do to the machine of a node, and how far what runs their models is confined.
type guardFlags struct {
	allowPaths, allowBuckets []string
	sandbox                  string
	loadTimeout, loadMemory  string
}

func (g *guardFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&g.allowPaths, "allow-path", nil, "a file or folder that jobs may use, `PATH`, with all below it; may be repeated, and jobs may then use no others. Default: on loopback all; else all but system folders, credentials in the user's home, and what is the node's own")
	flags.StringArrayVar(&g.allowBuckets, "allow-s3", nil, "a bucket that jobs may use, `s3://BUCKET`, or s3://BUCKET?endpoint=URL for another store than that of the environment; BUCKET may have wildcards, URL may be *; may be repeated, and jobs may then use no others. Default: on loopback all; else all buckets of the environment's store")
	flags.StringVar(&g.sandbox, "sandbox", process.SandboxAuto, "how far processes that run models are confined, `auto|require|off`: as far as the system permits (see engine doctor), in all ways or not started, or not at all")
	flags.StringVar(&g.loadTimeout, "model-load-timeout", "", "how long loading a model may take in such a process, a `DURATION`; default: 5m and a minute more for each GiB of the model")
	flags.StringVar(&g.loadMemory, "model-load-memory", "", "how much memory that may take, a `SIZE`; default: 4GiB and four times the size of the model")
}

// apply sets what a worker's configuration has of it.
func (g *guardFlags) apply(w *node.WorkerConfig) error {
	w.Sandbox = g.sandbox
	switch g.sandbox {
	case process.SandboxAuto, process.SandboxRequire, process.SandboxOff:
	default:
		return usagef("--sandbox %s: expected auto, require, or off", g.sandbox)
	}
	if g.loadTimeout != "" {
		d, err := jobplan.ParseDuration(g.loadTimeout)
		if err != nil || d <= 0 {
			return usagef("--model-load-timeout %s: expected a duration such as 10m", g.loadTimeout)
		}
		w.ModelLoadTimeout = d
	}
	if g.loadMemory != "" {
		n, err := engine.ParseSize(g.loadMemory)
		if err != nil || n <= 0 {
			return usagef("--model-load-memory %s: expected a size such as 16GiB", g.loadMemory)
		}
		w.ModelLoadMemoryBytes = n
	}
	return nil
}

// check refuses flags that cannot be understood, before the node is started.
func (g *guardFlags) check() error {
	if err := g.apply(&node.WorkerConfig{}); err != nil {
		return err
	}
	for i, path := range g.allowPaths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return usagef("--allow-path %s: %w", path, err)
		}
		g.allowPaths[i] = absolute
	}
	_, err := places.New(places.Config{Paths: g.allowPaths, Buckets: g.allowBuckets})
	return usage(err)
}

// arguments are those of the command that runs the node in the background.
func (g *guardFlags) arguments() (all []string) {
	all = append(all, "--sandbox", g.sandbox)
	for _, path := range g.allowPaths {
		all = append(all, "--allow-path", path)
	}
	for _, bucket := range g.allowBuckets {
		all = append(all, "--allow-s3", bucket)
	}
	if g.loadTimeout != "" {
		all = append(all, "--model-load-timeout", g.loadTimeout)
	}
	if g.loadMemory != "" {
		all = append(all, "--model-load-memory", g.loadMemory)
	}
	return all
}

// places is what jobs may use of the machine. shared says that the node serves others than its user.
func (f startFlags) places(a *app, shared bool, dataDir string) (*places.Policy, error) {
	config := places.Config{Shared: shared, Paths: f.guard.allowPaths, Buckets: f.guard.allowBuckets, Private: []string{dataDir, f.secretsKey, a.tls.key, a.tls.folder}}
	config.Readable = []string{filepath.Join(dataDir, modelsFolder)}
	if cache, err := a.cacheDir(); err == nil {
		config.Readable = append(config.Readable, filepath.Join(cache, "engine", modelsFolder))
	}
	p, err := places.New(config)
	return p, usage(err)
}

// shared tells whether the node serves others than its user: other machines, or whoever has a token. A worker serves whoever its head does.
func (f startFlags) shared(ctx context.Context, a *app, dataDir string) bool {
	if f.head {
		return isShared(ctx, f.host) || f.links.secure || f.links.insecure || f.requireToken
	}
	_, err := os.Stat(filepath.Join(dataDir, pki.TLSFolder)) // It has joined before.
	return isShared(ctx, a.address) || !a.tls.isZero() || f.links.token != "" || err == nil
}

// lookupWithin bounds how long isShared looks a name up.
const lookupWithin = 5 * time.Second

// isShared tells whether an address, with a port or without, is one that other machines reach. One that cannot be looked up may be.
func isShared(ctx context.Context, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if ip := net.ParseIP(host); ip != nil {
		return !ip.IsLoopback()
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	for _, a := range found {
		if !a.IP.IsLoopback() {
			return true
		}
	}
	return err != nil
}
