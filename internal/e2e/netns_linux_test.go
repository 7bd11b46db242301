package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
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

// machines are network namespaces on one bridge: machines of a network, as far as programs can tell. The test's own is on it, too.
type machines struct {
	t      *testing.T
	prefix string
	bridge string
	net    string
}

// newMachines makes n machines, or skips the test where that cannot be.
func newMachines(t *testing.T, n int) *machines {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("network namespaces need iproute2: %v", err)
	}
	id := os.Getpid() % 10_000
	m := &machines{t: t, prefix: fmt.Sprintf("eng%d-", id), bridge: fmt.Sprintf("engb%d", id), net: fmt.Sprintf("10.%d.%d.", 100+id%100, id/100)}
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "add", m.bridge, "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("no bridge: %v %s", err, out)
	}
	undo := func(args ...string) {
		t.Cleanup(func() {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v %s", strings.Join(args, " "), err, out)
			}
		})
	}
	undo("link", "del", m.bridge)
	ip(t, "addr", "add", m.net+"254/24", "dev", m.bridge)
	ip(t, "link", "set", m.bridge, "up")
	for i := range n {
		name, near, far := m.name(i), fmt.Sprintf("engn%d-%d", id, i), fmt.Sprintf("engf%d-%d", id, i)
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Skipf("no network namespace: %v %s", err, out)
		}
		undo("netns", "del", name)
		ip(t, "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
		ip(t, "link", "set", near, "master", m.bridge, "up")
		ip(t, "-n", name, "addr", "add", m.address(i)+"/24", "dev", far)
		ip(t, "-n", name, "link", "set", far, "up")
		ip(t, "-n", name, "link", "set", "lo", "up")
	}
	return m
}

func (m *machines) name(i int) string    { return m.prefix + strconv.Itoa(i) }
func (m *machines) address(i int) string { return m.net + strconv.Itoa(i+1) }

// on is what runs a program on a machine.
func (m *machines) on(i int) []string { return []string{"ip", "netns", "exec", m.name(i)} }

// TestMachines runs a job on three heads and two workers, each on a machine of its own, over TLS alone, while the head that leads and a worker
// die.
func TestMachines(t *testing.T) {
	testenv.Full(t)
	m := newMachines(t, 5)
	p := newPlace(t)
	p.env = append(p.env, "ENGINE_JOIN_TOKEN=", "ENGINE_TOKEN=")
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	common := []string{"--port", "10001", "--web-port", "8265", "--num-cpus", "0"}
	heads := make([]*secured, 3)
	heads[0] = p.startSecured(m.on(0), append(common, "--head", "--host", "0.0.0.0", "--data-dir", "head-0")...)
	if want := m.address(0) + ":10001"; heads[0].Address != want {
		t.Fatalf("the head says that it is at %s, and is at %s", heads[0].Address, want)
	}
	admin := []string{"--address", heads[0].Address, "--tls", p.path("head-0", "tls")}
	forHeads := strings.TrimSpace(p.must(append([]string{"node", "token", "--role", "head", "-q"}, admin...)...).stdout)
	for i := 1; i < 3; i++ {
		heads[i] = p.startSecured(m.on(i), append(common, "--head", "--host", m.address(i), "--join", heads[0].Address, "--token", forHeads, "--data-dir", folderOf(i))...)
	}
	all := strings.Join([]string{heads[0].Address, heads[1].Address, heads[2].Address}, ",")
	workers := make([]*secured, 2)
	for i := range workers {
		workers[i] = p.startSecured(m.on(3+i), "--address", all, "--token", heads[0].Join.Token, "--num-cpus", "1", "--data-dir", "w"+strconv.Itoa(i))
	}
	// A program of another machine is nobody without a token, whoever's it is.
	ca := p.path("head-0", "tls", "ca.pem")
	if o := p.engine("status", "--address", all, "--tls-ca", ca); o.code != 5 {
		t.Errorf("exit code %d without a token", o.code)
	}
	p.must(append([]string{"token", "create", "bob", "--role", "submit", "--file", p.path("bob")}, admin...)...)
	user := []string{"--address", all, "--tls-ca", ca, "--token", "@" + p.path("bob")}
	id := strings.TrimSpace(p.must(append([]string{"submit", p.wineJob("job.yaml", "out", "error"), "-q"}, user...)...).stdout)
	c, err := client.Dial(t.Context(), all, client.WithCA(ca), client.WithTokenFile(p.path("bob")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	done := func(tasks int64) {
		t.Helper()
		err := c.Job(id).Watch(t.Context(), func(job *enginev1.Job) error {
			if job.GetProgress().GetTasksDone() >= tasks {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
	}
	done(3)
	workers[0].kill(t)
	done(5)
	heads[0].kill(t)
	o := p.must(append([]string{"job", "wait", id, "-o", "json"}, user...)...)
	if r := parseResult(t, o.stdout); r.RowsWritten != files*rowsOfFile {
		t.Errorf("result %+v", r)
	}
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))

	// Another head knows what was revoked, and makes the tokens by which nodes join.
	admin = []string{"--address", all, "--tls", p.path(folderOf(1), "tls"), "-q"}
	name := strings.TrimSpace(p.must(append([]string{"node", "list", "-o", "json"}, admin...)...).stdout)
	if !strings.Contains(name, "ALIVE") {
		t.Fatalf("nodes %s", name)
	}
	token := strings.TrimSpace(p.must(append([]string{"node", "token"}, admin...)...).stdout)
	p.startSecured(m.on(3), "--address", heads[1].Address+","+heads[2].Address, "--token", token, "--num-cpus", "1", "--data-dir", "w-new", "--name", "late")
}
