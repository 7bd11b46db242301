package e2e_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testenv"
)

// inNamespaceEnv says that the test's program runs in a network namespace of its own.
const inNamespaceEnv = "ENGINE_E2E_NETNS"

// inNamespace runs the test once more in a network namespace of its own, where loopback's packets can be routed as one likes, and reports
// whether this is it. Nodes listen on loopback only, so that all of the cluster is in it. It skips the test where that cannot be.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespaceEnv) != "" {
		ip(t, "link", "set", "lo", "up")
		// The rules below come before the one that finds loopback.
		ip(t, "rule", "add", "pref", "10", "lookup", "local")
		ip(t, "rule", "del", "pref", "0")
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("network namespaces need iproute2: %v", err)
	}
	probe := exec.CommandContext(t.Context(), "ip", "rule", "add", "pref", "5", "ipproto", "tcp", "sport", "1", "blackhole")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no network namespace, or no routing by port: %v %s", err, out)
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m") //nolint:gosec // The test's own program.
	again.Env = append(os.Environ(), inNamespaceEnv+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := again.CombinedOutput()
	t.Logf("in a namespace of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// lose drops every packet to some ports and from others, or no more.
func lose(t *testing.T, lost bool, to, from []string) {
	t.Helper()
	verb := "del"
	if lost {
		verb = "add"
	}
	for which, ports := range map[string][]string{"dport": to, "sport": from} {
		for _, port := range ports {
			for _, protocol := range []string{"tcp", "udp"} {
				ip(t, "rule", verb, "pref", "5", "ipproto", protocol, which, port, "blackhole")
			}
		}
	}
}

// metric returns what the head's web port says of a metric, which is lost in no direction.
func (n *nodeProcess) metric(t *testing.T, name string) string {
	t.Helper()
	response, err := http.Get(n.Web + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestOneWayLossOfPackets loses all packets between the head and its worker in one direction, those of the gossip included, for longer
// than a lease while a job runs. The job goes on where it was when they pass again.
func TestOneWayLossOfPackets(t *testing.T) {
	testenv.Full(t)
	if !inNamespace(t) {
		return
	}
	const headGossip, workerGossip = "17946", "17947"
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	for _, name := range []string{"to-head", "to-worker"} {
		t.Run(name, func(t *testing.T) {
			p := *p
			p.t = t
			head := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", name, "--gossip-port", headGossip)
			_, port, err := net.SplitHostPort(head.Address)
			if err != nil {
				t.Fatal(err)
			}
			worker := p.start("--address", head.Address, "--num-cpus", "1", "--data-dir", name+"-w", "--gossip-port", workerGossip)
			ofHead, ofWorker := []string{port, headGossip}, []string{workerGossip}
			to, from := ofHead, ofWorker
			if name == "to-worker" {
				to, from = ofWorker, ofHead
			}
			id := p.submit(head.Address, p.wineJob(name+".yaml", name+"-out", "error"))
			untilTasksDone(t, head.Address, id, 1)
			begun := time.Now()
			lose(t, true, to, from)
			suspected := false
			eventually(t, "the end of the lease", func() bool {
				if !suspected && head.metric(t, "engine_nodes_suspect") == "1" {
					suspected = true
					t.Logf("suspected after %v", time.Since(begun).Round(10*time.Millisecond))
				}
				return head.metric(t, `engine_nodes{state="DEAD"}`) == "1"
			})
			t.Logf("dead after %v", time.Since(begun).Round(10*time.Millisecond))
			lose(t, false, to, from)
			p.await(head.Address, id)
			equalRows(t, readRows(t, p.path(name+"-out")), want)
			noLeftovers(t, p.path(name+"-out"))
			if worker.command.ProcessState != nil {
				t.Error("the worker has ended")
			}
			if lost := head.metric(t, "engine_leases_lost_total"); lost == "0" || lost == "" {
				t.Errorf("%q leases were lost, expected some", lost)
			}
			worker.kill(t)
			head.kill(t)
		})
	}
}
