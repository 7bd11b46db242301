// Victim is a node of a cluster whose processes tests kill: a head or a worker with executors, with short leases. Its one argument is a
// Config as JSON. It prints "ready" once it serves, and ends with the process that has started it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/node"
)

// leaseTime is short, so that a test need not wait long until a worker that was killed is known to be lost.
const leaseTime = 400 * time.Millisecond

// config is what the test says.
type config struct {
	// Head makes it a head on Host and Port; else it is a worker of the heads at Address. One that other machines reach has TLS.
	Head    bool
	Host    string
	Port    int
	Address string
	// Join is a list of heads to join, and Token lets the node join; both only the first time that its folder is used.
	Join, Token string
	// DataDir is the node's folder.
	DataDir string
	// TargetSplitBytes is how large the head's splits are.
	TargetSplitBytes int64
	// ONNXRuntime is the library's path.
	ONNXRuntime string
}

func main() {
	if code, executed := node.RunExecutor(); executed {
		os.Exit(code)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(argument string) error {
	var c config
	if err := json.Unmarshal([]byte(argument), &c); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	starting, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// Machines of a network have all links that there are.
	gossip := node.GossipConfig{Disabled: node.CheckAddress(starting, c.Address) == nil}
	var n *node.Node
	var err error
	if c.Head {
		n, err = node.StartHead(starting, node.HeadConfig{
			Host: c.Host, Port: c.Port, Join: c.Join, TLS: node.TLSConfig{Token: c.Token}, WebPort: -1, DataDir: c.DataDir, Version: "victim", Logger: logger,
			LeaseTime: leaseTime, TargetSplitBytes: c.TargetSplitBytes, Gossip: gossip,
		}, nil)
	} else {
		n, err = node.StartWorker(starting, node.WorkerConfig{
			Address: c.Address, Resources: engine.Resources{CPU: 1, MemoryBytes: 4 << 30}, TLS: node.TLSConfig{Token: c.Token, Dir: c.DataDir},
			ONNXRuntime: c.ONNXRuntime, Isolation: node.DefaultIsolation(), Version: "victim", Logger: logger,
			ObjectStore: node.ObjectStoreConfig{Disabled: true}, Gossip: gossip,
		})
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	ended := make(chan struct{})
	go func() { // lifecycle: ends with the process's input, and the process with it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-n.Done():
		return fmt.Errorf("the node ended by itself: %w", n.Err())
	}
}
