package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
)

// secured is a node with TLS in a process of its own, whose log is a file.
type secured struct {
	*nodeProcess
	Join *struct {
		Token, Fingerprint, Certificates string
	} `json:"join"`
	Flight string `json:"flight"`
	log    string
}

// startSecured starts a node and waits until it is ready. run is what runs the program, such as `ip netns exec NAME`.
func (p *place) startSecured(run []string, args ...string) *secured {
	p.t.Helper()
	args = append([]string{p.binary, "start", "--block", "-o", "json"}, args...)
	args = append(slices.Clone(run), args...)
	command := exec.Command(args[0], args[1:]...) //nolint:gosec // The test's own program.
	command.Dir, command.Env = p.dir, p.env
	stdout, err := command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.CreateTemp(p.dir, "node-*.log")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // The process has its own.
	command.Stderr = log
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	n := &secured{nodeProcess: &nodeProcess{command: command}, log: log.Name()}
	p.t.Cleanup(func() { n.kill(p.t) })
	if err := json.NewDecoder(stdout).Decode(n); err != nil {
		n.kill(p.t)
		p.t.Fatalf("start %v: %v\n%s", args, err, n.logged(p.t))
	}
	return n
}

func (n *secured) logged(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ports are the TCP ports that a process listens on, with their addresses, as the kernel has them.
func ports(t *testing.T, pid int) []string {
	t.Helper()
	sockets := map[string]bool{}
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, descriptor := range descriptors {
		// One that was closed meanwhile is nobody's.
		if target, err := os.Readlink(descriptor); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var found []string
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			const listening = "0A"
			fields := strings.Fields(scanner.Text())
			if len(fields) < 10 || fields[3] != listening || !sockets[fields[9]] {
				continue
			}
			address, port, _ := strings.Cut(fields[1], ":")
			number, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			bytes, err := hex.DecodeString(address)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(bytes); i += 4 {
				slices.Reverse(bytes[i : i+4])
			}
			found = append(found, net.JoinHostPort(net.IP(bytes).String(), strconv.FormatUint(number, 10)))
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// forger makes any certificate by the authority of a folder.
type forger struct {
	t       *testing.T
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	cluster string
}

func newForger(t *testing.T, dir string) *forger {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	ca, err := x509.ParseCertificate(read("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(read("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &forger{t: t, ca: ca, key: key.(*ecdsa.PrivateKey), cluster: strings.Split(ca.URIs[0].Path, "/")[1]}
}

// foreign is a forger with an authority of its own, which says to be of the same cluster.
func (f *forger) foreign() *forger {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := *f.ca
	template.PublicKey, template.SignatureAlgorithm = nil, 0
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		f.t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return &forger{t: f.t, ca: ca, key: key, cluster: f.cluster}
}

func (f *forger) certificate(role, name string, from, until time.Time) tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	uri, err := url.Parse("engine://cluster/" + f.cluster + "/role/" + role + "/name/" + name)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: until, URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca, &key.PublicKey, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// breakIn connects to a port with a certificate, for a protocol, and says why nothing came of it; nil if the other end took it.
func breakIn(t *testing.T, address string, certificate *tls.Certificate, protocols ...string) error {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols} //nolint:gosec // It is an attacker.
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	// A server that has taken the certificate waits for a request; one that has not says so.
	_, err = conn.Read(make([]byte, 1))
	if os.IsTimeout(err) {
		return nil
	}
	return err
}

// shout sends clear text to a port, and returns what it said before it closed the connection, but for an alert of TLS.
func shout(t *testing.T, address, text string) []byte {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn) // It may be reset.
	const alert = 21
	if len(answer) > 0 && answer[0] == alert {
		return nil
	}
	return answer
}

// TestPortsOfACluster lists the ports that the processes of a cluster listen on, and tries to break in at each.
func TestPortsOfACluster(t *testing.T) {
	p := newPlace(t)
	head := p.startSecured(nil, "--head", "--secure", "--port", "0", "--web-port", "0", "--flight-port", "0", "--gossip-port", "0", "--num-cpus", "1", "--data-dir", "head")
	worker := p.startSecured(nil, "--address", head.Address, "--token", head.Join.Token, "--name", "w-1", "--flight-port", "0", "--gossip-port", "0", "--num-cpus", "1", "--data-dir", "w1")
	admin := []string{"--address", head.Address, "--tls", p.path("head", "tls")}
	gone := p.startSecured(nil, "--address", head.Address, "--token", head.Join.Token, "--name", "gone", "--flight-port", "0", "--gossip-port", "0", "--num-cpus", "1", "--data-dir", "w2")
	revoked, err := tls.LoadX509KeyPair(p.path("w2", "tls", "node.pem"), p.path("w2", "tls", "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.must(append([]string{"node", "revoke", "gone"}, admin...)...)

	ours := newForger(t, p.path("head", "tls"))
	now := time.Now()
	type attack struct {
		reason      string
		certificate tls.Certificate
	}
	attacks := []attack{
		{`"foreign authority"`, ours.foreign().certificate("worker", "x", now.Add(-time.Hour), now.Add(time.Hour))},
		{"expired", ours.certificate("worker", "x", now.Add(-time.Hour), now.Add(-time.Second))},
		{`"not yet valid"`, ours.certificate("worker", "x", now.Add(time.Hour), now.Add(2*time.Hour))},
		{"revoked", revoked},
		{`"wrong role"`, ours.certificate("spectator", "x", now.Add(-time.Hour), now.Add(time.Hour))},
	}
	goodWorker := ours.certificate("worker", "y", now.Add(-time.Hour), now.Add(time.Hour))
	for _, node := range []*secured{head, worker} {
		links := map[string]string{}
		for _, address := range ports(t, node.Pid) {
			switch address {
			case node.Address:
				links[address] = "head"
			case strings.TrimPrefix(node.Web, "https://"):
				links[address] = "web"
			case node.Flight:
				links[address] = "flight"
			default:
				links[address] = "gossip"
			}
		}
		want := map[string]int{"head": 1, "web": 1, "flight": 1, "gossip": 1}
		if node == worker {
			want = map[string]int{"flight": 1, "gossip": 1}
		}
		for _, link := range links {
			want[link]--
		}
		for link, n := range want {
			if n != 0 {
				t.Fatalf("ports %v: %s is not as often there as expected", links, link)
			}
		}
		for address, link := range links {
			t.Run(fmt.Sprintf("%s of %s", link, filepath.Base(node.DataDir)), func(t *testing.T) {
				for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "engine-raft 1\n\x04head", strings.Repeat("\x00", 64)} {
					if answer := shout(t, address, text); link != "gossip" && len(answer) > 0 || bytes.Contains(answer, []byte("HTTP")) {
						t.Errorf("clear text %q is answered by %q", text, answer)
					}
				}
				if link == "gossip" {
					eventually(t, "a line about clear text", func() bool {
						return strings.Contains(node.logged(t), `link=gossip reason="not encrypted by a key of this cluster"`)
					})
					return
				}
				says := func(reason string) func() bool {
					return func() bool { return hasLine(node.logged(t), "link="+link, "reason="+reason) }
				}
				eventually(t, "a line about clear text", says(`"plain text"`))
				for _, a := range attacks {
					if err := breakIn(t, address, &a.certificate, "h2", "http/1.1"); err == nil {
						t.Errorf("%s was let in", a.reason)
					}
					eventually(t, "a line about "+a.reason, says(a.reason))
				}
				// Those who have a good certificate are let in, so that the refusals above say something.
				if err := breakIn(t, address, &goodWorker, "h2", "http/1.1"); err != nil && link != "head" && link != "flight" {
					t.Errorf("a worker was not let in: %v", err)
				}
				if link != "head" {
					return
				}
				if err := breakIn(t, address, &goodWorker, "engine-raft"); err == nil {
					t.Error("a worker may speak raft")
				}
				if err := breakIn(t, address, nil, "engine-raft"); err == nil {
					t.Error("whoever has no certificate may speak raft")
				}
				eventually(t, "a line about raft", says(`"no certificate"`))
			})
		}
	}
	// The worker that was revoked is out.
	c, err := client.Dial(t.Context(), head.Address, client.WithTLSFolder(p.path("head", "tls")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	eventually(t, "the end of the revoked worker", func() bool {
		nodes, err := c.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return aliveNodes(nodes) == 2
	})
	gone.kill(t)
	if o := p.engine("start", "--block", "--address", head.Address, "--data-dir", "w2", "--num-cpus", "1"); o.code == 0 {
		t.Error("the revoked worker is back")
	}
}

// hasLine tells whether a log has a line with all of the texts.
func hasLine(log string, texts ...string) bool {
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			return true
		}
	}
	return false
}

// TestJoining shows what becomes of tokens that are of no use, and of nodes that may not join: it is said to the user, and no log has a token.
func TestJoining(t *testing.T) {
	p := newPlace(t)
	p.env = append(p.env, "ENGINE_JOIN_TOKEN=", "ENGINE_TOKEN=")
	head := p.startSecured(nil, "--head", "--secure", "--port", "0", "--web-port", "-1", "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "head")
	other := p.startSecured(nil, "--head", "--secure", "--port", "0", "--web-port", "-1", "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "other")
	admin := []string{"--address", head.Address, "--tls", p.path("head", "tls"), "-q"}
	token := func(args ...string) string {
		return strings.TrimSpace(p.must(append(append([]string{"node", "token"}, args...), admin...)...).stdout)
	}
	short, once, revoked, forHeads := token("--life", "1s"), token("--uses", "1"), token(), token("--role", "head")
	var tokens []struct {
		ID    string `json:"token_id"`
		State string `json:"state"`
	}
	list := func() {
		if err := json.Unmarshal([]byte(p.must(append([]string{"node", "token", "list", "-o", "json"}, admin...)...).stdout), &tokens); err != nil {
			t.Fatal(err)
		}
	}
	list()
	for _, made := range tokens {
		// They are in the order in which they were made: that of the start, short, once, revoked, forHeads.
		t.Logf("%+v", made)
	}
	id := tokens[len(tokens)-2].ID
	p.must(append([]string{"node", "token", "revoke", id}, admin...)...)
	p.startSecured(nil, "--address", head.Address, "--token", once, "--name", "taken", "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "1", "--data-dir", "taken")
	eventually(t, "the end of a token", func() bool {
		list()
		return len(tokens) == 4
	})
	good := head.Join.Token
	swapped := good[:30] + good[31:32] + good[30:31] + good[32:]
	if swapped == good {
		swapped = good[:30] + "_" + good[31:]
	}
	p.write("token.txt", "no token\n")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"expired", []string{"--token", short}, 5, "has expired at"},
		{"used up", []string{"--token", once}, 5, "as often as it may be"},
		{"revoked", []string{"--token", revoked}, 5, "was revoked"},
		{"for heads", []string{"--token", forHeads}, 5, "is for a head"},
		{"of another cluster", []string{"--token", other.Join.Token}, 5, "another cluster"},
		{"mistyped", []string{"--token", swapped}, 2, "mistyped"},
		{"cut", []string{"--token", good[:40]}, 2, "mistyped"},
		{"no token", []string{"--secure"}, 5, "needs a token"},
		{"not a token", []string{"--token", "@token.txt"}, 2, "not a token to join with"},
		{"a name that is taken", []string{"--token", good, "--name", "taken"}, 5, "the name is taken"},
		{"a name that cannot be", []string{"--token", good, "--name", "A/B"}, 2, "lower-case"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := strings.ReplaceAll(test.name, " ", "-")
			o := p.engine(append([]string{"start", "--address", head.Address, "--num-cpus", "1", "--data-dir", folder}, test.args...)...)
			if o.code != test.code || !strings.Contains(o.stderr, test.want) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", o.code, test.code, test.want, o.stderr)
			}
			log, err := os.ReadFile(p.path(folder, "engine.log"))
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{good, short, once, revoked, forHeads, swapped, other.Join.Token} {
				if text := secret[20:]; strings.Contains(o.stderr, text) || strings.Contains(string(log), text) || strings.Contains(head.logged(t), text) {
					t.Errorf("a token is in the log or the message:\n%s\n%s", o.stderr, log)
				}
			}
		})
	}
	if log := head.logged(t); !hasLine(log, "a node was not let in", "has expired") || !hasLine(log, "a node was not let in", "the name is taken") {
		t.Errorf("the head's log does not say whom it has not let in:\n%s", log)
	}

	t.Run("open permissions", func(t *testing.T) {
		for _, open := range []string{"open", filepath.Join("open", "tls")} {
			if err := os.MkdirAll(p.path("open", "tls"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p.path(open), 0o755); err != nil { //nolint:gosec // That is the mistake.
				t.Fatal(err)
			}
			o := p.engine("start", "--head", "--secure", "--port", "0", "--web-port", "-1", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "open")
			if o.code != 5 || !strings.Contains(o.stderr, "others may use it") {
				t.Errorf("%s: exit code %d: %s", open, o.code, o.stderr)
			}
			if err := os.Chmod(p.path(open), 0o700); err != nil { //nolint:gosec // A folder needs it.
				t.Fatal(err)
			}
		}
	})
	t.Run("a user's token", func(t *testing.T) {
		user := strings.TrimSpace(p.must(append([]string{"token", "create", "bob", "--role", "viewer"}, admin...)...).stdout)
		p.must("status", "--address", head.Address, "--tls-fingerprint", head.Join.Fingerprint, "--token", user)
		p.must("status", "--address", head.Address, "--tls-ca", p.path("head", "tls", "ca.pem"), "--token", user)
		for _, args := range [][]string{
			{"--tls-ca", p.path("head", "tls", "ca.pem"), "--token", user + "x"},
			{"--tls-ca", p.path("other", "tls", "ca.pem"), "--token", user},
			{"--tls-fingerprint", other.Join.Fingerprint, "--token", user},
		} {
			if o := p.engine(append([]string{"status", "--address", head.Address}, args...)...); o.code == 0 {
				t.Errorf("%v: it was let in", args)
			}
		}
		if o := p.engine("status", "--address", head.Address); o.code == 0 {
			t.Error("clear text was answered")
		}
		if o := p.engine("node", "token", "--address", head.Address, "--tls-ca", p.path("head", "tls", "ca.pem"), "--token", user); o.code != 5 {
			t.Errorf("a viewer has made a token to join with: %d", o.code)
		}
	})
	t.Run("a worker that was revoked", func(t *testing.T) {
		args := []string{"--address", head.Address, "--name", "gone", "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "1", "--data-dir", "gone"}
		gone := p.startSecured(nil, append(args, "--token", good)...)
		p.must(append([]string{"node", "revoke", "gone"}, admin...)...)
		eventually(t, "the reason in the log of the worker that runs", func() bool {
			return hasLine(gone.logged(t), "level=ERROR", "this node's certificate is refused", "the certificate of worker gone, serial ", "was revoked")
		})
		gone.kill(t)
		o := p.engine(append([]string{"start", "--block"}, args...)...)
		for _, want := range []string{"the certificate of worker gone, serial ", "was revoked", "hint: make a token at a head, `engine node token`"} {
			if o.code != 5 || !strings.Contains(o.stderr, want) {
				t.Errorf("exit code %d, no %q:\n%s", o.code, want, o.stderr)
			}
		}
		if o := p.engine("status", "--address", head.Address, "--tls", p.path("gone", "tls")); o.code != 4 || !strings.Contains(o.stderr, "was revoked") || strings.Contains(o.stderr, "is a head running") {
			t.Errorf("exit code %d: %s", o.code, o.stderr)
		}
		// A token from before does not let it in again, as the unit file of a worker may have one. With a new one, the same folder will do.
		if o := p.engine(append([]string{"start", "--block", "--token", good}, args...)...); o.code != 5 || !strings.Contains(o.stderr, "was made before the worker gone was revoked") {
			t.Errorf("exit code %d: %s", o.code, o.stderr)
		}
		again := p.startSecured(nil, append(args, "--token", token())...)
		if !hasLine(again.logged(t), "the certificate from before is refused") {
			t.Errorf("it has joined with what was revoked:\n%s", again.logged(t))
		}
	})
	t.Run("insecure", func(t *testing.T) {
		exposed := p.startSecured(nil, "--head", "--host", "0.0.0.0", "--insecure", "--i-understand", "--port", "0", "--web-port", "-1", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "exposed")
		if log := exposed.logged(t); !hasLine(log, "level=WARN", "clear text") || exposed.Join != nil {
			t.Errorf("no warning:\n%s", log)
		}
		exposed.kill(t)
		// Once more with the same folder: each start warns, and says where others reach it.
		for name, args := range map[string][]string{"a machine": {"--host", "::"}, "a name": {"--host", "::", "--advertise", "head.example"}} {
			exposed := p.startSecured(nil, append(args, "--head", "--insecure", "--i-understand", "--port", "0", "--web-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "exposed")...)
			if log := exposed.logged(t); !hasLine(log, "level=WARN", "clear text") {
				t.Errorf("%s: no warning:\n%s", name, log)
			}
			host, _, err := net.SplitHostPort(exposed.Address)
			ip := net.ParseIP(host)
			if err != nil || name == "a name" && host != "head.example" || name == "a machine" && (ip == nil || ip.IsUnspecified() || ip.IsLoopback()) ||
				!strings.HasPrefix(exposed.Web, "http://"+net.JoinHostPort(host, "")) {
				t.Errorf("%s: it says to be at %q and %q", name, exposed.Address, exposed.Web)
			}
			exposed.kill(t)
		}
	})
}

// TestOwnCertificates has nodes whose certificates come from elsewhere, and change while they run.
func TestOwnCertificates(t *testing.T) {
	p := newPlace(t)
	// An authority that is made as any other is, by a head that has nothing to do with it.
	elsewhere := p.startSecured(nil, "--head", "--secure", "--port", "0", "--web-port", "-1", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "elsewhere")
	elsewhere.kill(t)
	authority := newForger(t, p.path("elsewhere", "tls"))
	ca := p.path("elsewhere", "tls", "ca.pem")
	put := func(role, name string) []string {
		pair := authority.certificate(role, name, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		// In one file, so that both change at the same time.
		text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
		path := p.write(name+".new", string(text))
		if err := os.Rename(path, p.path(name+".pem")); err != nil {
			t.Fatal(err)
		}
		return []string{"--tls-ca", ca, "--tls-cert", p.path(name + ".pem"), "--tls-key", p.path(name + ".pem")}
	}
	head := p.startSecured(nil, append(put("head", "h"), "--head", "--port", "0", "--web-port", "-1", "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "head")...)
	if head.Join != nil {
		t.Error("a head without the authority's key has made a token")
	}
	worker := p.startSecured(nil, append(put("worker", "w-1"), "--address", head.Address, "--flight-port", "0", "--gossip-port", "-1", "--num-cpus", "1", "--data-dir", "w1")...)
	admin := append([]string{"--address", head.Address}, put("admin", "me")...)
	p.wineFiles(2, 1000)
	p.must(append([]string{"submit", p.wineJob("job.yaml", "out", "error"), "--wait"}, admin...)...)
	for name, role := range map[string]string{"h": "head", "w-1": "worker"} {
		put(role, name)
	}
	for _, node := range []*secured{head, worker} {
		eventually(t, "the new certificate", func() bool { return strings.Contains(node.logged(t), "were read again") })
	}
	p.must(append([]string{"submit", p.wineJob("job2.yaml", "out2", "error"), "--wait"}, admin...)...)
	for _, wrong := range []struct {
		args []string
		want string
	}{
		{append(put("worker", "w-2"), "--head"), `that of a "worker"`},
		{append(put("admin", "a"), "--address", head.Address), `that of a "admin"`},
		{[]string{"--head", "--tls-ca", ca}, "required"},
	} {
		o := p.engine(append([]string{"start", "--port", "0", "--web-port", "-1", "--gossip-port", "-1", "--num-cpus", "1", "--data-dir", "wrong"}, wrong.args...)...)
		if o.code == 0 || !strings.Contains(o.stderr, wrong.want) {
			t.Errorf("%v: exit code %d: %s", wrong.args, o.code, o.stderr)
		}
	}
}
