package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	networkHeads, networkWorkers = 3, 2
	networkPort                  = 10001
)

// network has three heads and two workers on machines of their own, which speak TLS alone with each other, gossip included. They have
// joined once, and every cluster begins with a copy of their folders: addresses, names, and certificates are the same.
type network struct {
	*machines
	joined string
	// heads are the heads' addresses, and reached the proxies of servers on this machine by what is behind them.
	heads   string
	reached map[string]string
}

// newNetwork makes the machines, and has the nodes join, or skips the test where that cannot be.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{machines: newMachines(t, networkHeads+networkWorkers), joined: t.TempDir(), reached: map[string]string{}}
	var heads []string
	for i := range networkHeads {
		heads = append(heads, fmt.Sprintf("%s:%d", n.address(i), networkPort))
	}
	n.heads = strings.Join(heads, ",")

	all := n.of(n.joined)
	stops := []func(){n.start(t, all[0])}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	c := n.dial(t, n.joined)
	defer func() { _ = c.Close() }()
	for i, one := range all[1:] {
		role := "worker"
		if i+1 < networkHeads {
			role, one.config["Join"] = "head", heads[0]
		}
		made, err := c.CreateJoinToken(t.Context(), &enginev1.CreateJoinTokenRequest{Role: role})
		if err != nil {
			t.Fatal(err)
		}
		one.config["Token"] = made.GetToken()
		stops = append(stops, n.start(t, one))
	}
	if known, err := c.Heads(t.Context()); err != nil || len(known) != networkHeads {
		t.Fatalf("heads %v, %v", known, err)
	}
	return n
}

// of are the nodes with their data below a folder.
func (n *network) of(dir string) (all []victim) {
	for i := range networkHeads {
		all = append(all, victim{run: n.on(i), config: map[string]any{
			"Head": true, "Host": n.address(i), "Port": networkPort, "Address": n.heads, "DataDir": filepath.Join(dir, folderOf(i)),
		}})
	}
	for i := range networkWorkers {
		all = append(all, victim{run: n.on(networkHeads + i), config: map[string]any{"Address": n.heads, "DataDir": filepath.Join(dir, fmt.Sprint("w", i))}})
	}
	return all
}

// start starts a node and waits until it is ready. stop kills it.
func (n *network) start(t *testing.T, one victim) (stop func()) {
	t.Helper()
	program, err := victimProgram()
	if err != nil {
		t.Fatal(err)
	}
	one.config["ONNXRuntime"] = testenv.ONNXRuntime(t)
	args := one.command(t, program)
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // The test's own program.
	command.Stderr = os.Stderr
	_, err = command.StdinPipe() // The process lives as long.
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = command.Wait() // It was killed.
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		stop()
		t.Fatalf("%q, %v", line, err)
	}
	return stop
}

func (n *network) victims(t *testing.T, dir string) (all []victim, heads int) {
	t.Helper()
	// Their permissions count.
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", n.joined+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v %s", err, out)
	}
	return n.of(dir), networkHeads
}

func (n *network) dial(t *testing.T, dir string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), n.heads, client.WithTLSFolder(filepath.Join(dir, folderOf(0), "tls")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *network) reach(t *testing.T, address string) string {
	t.Helper()
	if n.reached[address] == "" {
		_, port, err := net.SplitHostPort(newProxyOn(n.t, n.net+"254", address).listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n.reached[address] = net.JoinHostPort(n.net+"254", port)
	}
	return n.reached[address]
}

// killsAtOnce is how many processes are killed in one run of the test below, each at another place.
const killsAtOnce = 4

// TestKillMatrixOverTLS runs the job of every scenario on three heads and two workers, each on a machine of its own, over TLS alone, and kills
// the process that comes to a place: at every place once, several in a run, and in a soak as TestKillMatrix does.
func TestKillMatrixOverTLS(t *testing.T) {
	testenv.Full(t)
	k := newKiller(t, newNetwork(t))
	if testenv.IsSoak() {
		k.matrix(seeded(t))
		return
	}
	killed := map[failpoint.Point]bool{unreached: true}
	begun, runs := 0, 0
	for _, s := range killScenarios {
		k.within(s.name, func(t *testing.T) {
			begun++
			var left, alone []failpoint.Point
			for p := range k.run(s, "", nil) {
				if !killed[p] && !slices.Contains(s.before, p) {
					left = append(left, p)
				}
			}
			slices.Sort(left)
			for now := range slices.Chunk(left, killsAtOnce) {
				var orders []string
				for _, p := range now {
					orders = append(orders, string(p))
				}
				k.run(s, strings.Join(orders, ","), nil)
				runs++
				for _, p := range now {
					if !exists(k.path(fmt.Sprintf("run-%d/marks/%s", k.runs, p.Mark()))) {
						alone = append(alone, p)
					}
					killed[p] = true
				}
				// One that was killed before has kept the job from there.
				for _, p := range alone {
					k.killAt(s, p, 1)
					runs++
				}
				if alone = nil; t.Failed() {
					t.Fatalf("at one of %q", now)
				}
			}
		})
	}
	for _, p := range failpoint.Points() {
		if begun == len(killScenarios) && !killed[p] {
			t.Errorf("nobody was killed at %s", p)
		}
	}
	t.Logf("%d places in %d runs", len(killed)-1, runs)
}

// TestKilledAtAnyInstantOverTLS is TestKilledAtAnyInstant on those machines.
func TestKilledAtAnyInstantOverTLS(t *testing.T) {
	testenv.Soak(t)
	newKiller(t, newNetwork(t)).anyInstant(seeded(t), 200)
}
