package e2e_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// attack is one thing that an attacker tries against a cluster that runs, and how it is refused.
type attack struct {
	// does says what the attacker does.
	does string
	// gets are texts that the attacker sees, and logged are texts of one line of the head's log. Both go into the docs.
	gets, logged []string
	// slow says that it takes seconds in which nothing is done.
	slow bool
	// try does it, and returns what the attacker sees.
	try func(b *besieged) string
}

// surface is a part of what attackers can reach.
type surface struct {
	name    string
	attacks []attack
}

var surfaces = []surface{
	{"The network, before anybody has said who it is", networkAttacks},
	{"Joining", joinAttacks},
	{"Identity", identityAttacks},
	{"Roles and queues", roleAttacks},
	{"The web port and browsers", webAttacks},
	{"Models and data files", fileAttacks},
	{"Places and secrets", placeAttacks},
	{"Limits", limitAttacks},
	{"The audit log, the logs, and the machine", auditAttacks},
}

// besieged is a cluster with TLS on machines of its own, with work of two users on it. The attackers are on another machine, so that the
// kernel says nothing good of them. What is here is never changed by an attack.
type besieged struct {
	*place
	*machines
	head, worker, other *secured
	// gone is the certificate of a node that was revoked.
	gone tls.Certificate
	// ours makes certificates by the cluster's authority, as one would whose key was stolen.
	ours *forger
	oidc *forgedIssuer
	// admin are the flags of an admin, and tokens the texts of the users' tokens by their names.
	admin  []string
	tokens map[string]string
	// job is alice's, and object too, both of queue a. bob has queue b.
	job    string
	object engine.ObjectRef
}

const attackLimits = `
limits: {connections: 300, refusals_per_second: 1000}
`

// besiege starts the cluster.
func besiege(t *testing.T) *besieged {
	t.Helper()
	b := &besieged{machines: newMachines(t, 2), place: newPlace(t), tokens: map[string]string{}, oidc: newForgedIssuer(t)}
	b.env = append(b.env, "ENGINE_JOIN_TOKEN=", "ENGINE_TOKEN=", "AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "NODE_PASSWORD="+canaryNode)
	access := b.write("access.yaml", b.oidc.config(b.write("keys.json", b.oidc.keys()))+attackLimits)
	start := func(machine int, args ...string) *secured {
		return b.startSecured(b.on(machine), append([]string{"--flight-port", "0", "--gossip-port", "0", "--object-store-memory", "64MiB"}, args...)...)
	}
	head := func(machine int, name string, args ...string) *secured {
		return start(machine, append([]string{"--head", "--host", b.address(machine), "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", name}, args...)...)
	}
	b.head, b.other = head(0, "head", "--access", access), head(1, "other")
	worker := func(name string) *secured {
		return start(1, "--address", b.head.Address, "--token", b.head.Join.Token, "--name", name, "--num-cpus", "2", "--data-dir", name)
	}
	gone := worker("gone")
	var err error
	if b.gone, err = tls.LoadX509KeyPair(b.path("gone", "tls", "node.pem"), b.path("gone", "tls", "node.key")); err != nil {
		t.Fatal(err)
	}
	gone.kill(t)
	b.worker = worker("w-1")
	b.admin = []string{"--address", b.head.Address, "--tls", b.path("head", "tls")}
	b.must(append([]string{"node", "revoke", "gone"}, b.admin...)...)
	b.ours = newForger(t, b.path("head", "tls"))
	for name, args := range map[string][]string{
		"alice": {"--role", "submit", "--queues", "a"}, "bob": {"--role", "submit", "--queues", "b"}, "vera": {"--role", "viewer", "--queues", "a"},
		"otto": {"--role", "operate"}, "short": {"--role", "admin", "--ttl", "1s"}, "lost": {"--role", "admin"},
	} {
		b.tokens[name] = strings.TrimSpace(b.must(append(append([]string{"token", "create", name}, args...), b.admin...)...).stdout)
	}
	b.must(append([]string{"token", "revoke", "lost"}, b.admin...)...)
	b.wineFiles(1, 10)
	b.job = strings.TrimSpace(b.must(b.submits("alice", b.wineJob("alice.yaml", "alice", "error"), "--wait", "-q", "--set", "queue=a")...).stdout)
	b.putObject()
	return b
}

// ca is the certificate of the cluster's authority, which is no secret.
func (b *besieged) ca() string { return b.path("head", "tls", "ca.pem") }

// as are the flags of a user.
func (b *besieged) as(user string) []string {
	return []string{"--address", b.head.Address, "--tls-ca", b.ca(), "--token", b.tokens[user]}
}

func (b *besieged) submits(user, job string, args ...string) []string {
	return append(append([]string{"submit", job}, args...), b.as(user)...)
}

// putObject makes alice's object.
func (b *besieged) putObject() {
	b.place.t.Helper()
	c, err := client.Dial(b.place.t.Context(), b.head.Address, client.WithCA(b.ca()), client.WithToken(b.tokens["alice"]))
	if err != nil {
		b.place.t.Fatal(err)
	}
	b.place.t.Cleanup(func() { _ = c.Close() }) // The object lives as long.
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer builder.Release()
	builder.Field(0).(*array.Int64Builder).Append(7)
	record := builder.NewRecord()
	defer record.Release()
	if b.object, err = c.Put(b.place.t.Context(), record); err != nil {
		b.place.t.Fatal(err)
	}
}

// says is what the program tells an attacker.
func (b *besieged) says(args ...string) string {
	b.place.t.Helper()
	o := b.engine(args...)
	return fmt.Sprintf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
}

// attackersTLS is an attacker's side of TLS, with a certificate or none.
func attackersTLS(certificate *tls.Certificate, protocols ...string) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols} //nolint:gosec // It is an attacker.
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return config
}

// conn is a gRPC connection of an attacker.
func (b *besieged) conn(address string, certificate *tls.Certificate) *grpc.ClientConn {
	b.place.t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(attackersTLS(certificate, "h2"))))
	if err != nil {
		b.place.t.Fatal(err)
	}
	b.place.t.Cleanup(func() { _ = c.Close() })
	return c
}

// certificate is a good one, as one would have that was stolen.
func (b *besieged) certificate(role, name string) *tls.Certificate {
	c := b.ours.certificate(role, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	return &c
}

// with is the context of a call with a token, or whatever else is in that header.
func (b *besieged) with(authorization ...string) context.Context {
	ctx, cancel := context.WithTimeout(b.place.t.Context(), time.Minute)
	b.place.t.Cleanup(cancel)
	return metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": authorization})
}

func (b *besieged) user(name string) context.Context { return b.with("Bearer " + b.tokens[name]) }

// answer is what a gRPC call says.
func answer(response any, err error) string {
	if err == nil {
		return fmt.Sprintf("OK: %v", response)
	}
	s := status.Convert(err)
	return s.Code().String() + ": " + s.Message()
}

// asks lists jobs, which any user may.
func (b *besieged) asks(authorization ...string) string {
	b.place.t.Helper()
	return answer(enginev1.NewJobServiceClient(b.conn(b.head.Address, nil)).ListJobs(b.with(authorization...), &enginev1.ListJobsRequest{}))
}

// gets asks the web port, of which request changes what it likes.
func (b *besieged) gets(path string, change func(r *http.Request)) string {
	b.place.t.Helper()
	ctx, cancel := context.WithTimeout(b.place.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.head.Web+path, nil)
	if err != nil {
		b.place.t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	transport := &http.Transport{TLSClientConfig: attackersTLS(nil)}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n", response.Status, body)
	_ = response.Header.Write(&text) // It never fails.
	return text.String()
}

// tlsPorts are the ports that speak TLS: the head's, the web's, and the worker's of Flight.
func (b *besieged) tlsPorts() []string {
	return []string{b.head.Address, strings.TrimPrefix(b.head.Web, "https://"), b.worker.Flight}
}

// shutOut is what everywhere says of an attacker who was let in nowhere.
const shutOut = "no connection, at any port"

// everywhere tries to break in at each TLS port with a certificate, and says where it was let in.
func (b *besieged) everywhere(certificate *tls.Certificate) string {
	b.place.t.Helper()
	for _, address := range b.tlsPorts() {
		err := breakIn(b.place.t, address, certificate, "h2", "http/1.1")
		if err == nil {
			return "let in at " + address
		}
	}
	return shutOut
}

// raw sends bytes over a connection, and returns what comes back before it is closed.
func (b *besieged) raw(conn net.Conn, text string) string {
	b.place.t.Helper()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, text); err != nil {
		return "closed: " + err.Error()
	}
	said, err := io.ReadAll(conn)
	if os.IsTimeout(err) {
		return fmt.Sprintf("still open after a minute: %s", said)
	}
	return fmt.Sprintf("closed: %s", said)
}

// TestAttacks tries every attack against one cluster, and sees in the end that the cluster works as before.
func TestAttacks(t *testing.T) {
	b := besiege(t)
	t.Logf("the cluster is ready")
	t.Run("all", func(t *testing.T) {
		for _, s := range surfaces {
			for _, a := range s.attacks {
				t.Run(a.does, func(t *testing.T) {
					if a.slow {
						t.Parallel()
					}
					within := *b
					place, machines := *b.place, *b.machines
					place.t, machines.t = t, t
					within.place, within.machines = &place, &machines
					forger := *b.ours
					forger.t = t
					within.ours = &forger
					begun := time.Now()
					said := a.try(&within)
					t.Logf("after %v: %.600s", time.Since(begun).Round(time.Millisecond), said)
					for _, want := range a.gets {
						if !strings.Contains(said, want) {
							t.Errorf("the attacker does not get %q", want)
						}
					}
					sees(t, "what the attacker gets", said)
					if len(a.logged) > 0 && !t.Failed() {
						eventually(t, "a line in the log", func() bool {
							return hasLine(b.head.logged(t)+b.worker.logged(t), a.logged...)
						})
					}
				})
			}
		}
	})
	b.must(b.submits("alice", b.wineJob("after.yaml", "after", "error"), "--wait", "--set", "queue=a")...)
	b.must("audit", "verify", "--data-dir", "head")
	for _, token := range b.tokens {
		if log := b.head.logged(t) + b.worker.logged(t); strings.Contains(log, token[20:]) {
			t.Error("a log has the text of a token")
		}
	}
}

var updateAttacks = flag.Bool("update", false, "write docs/reference/attacks.md again")

// TestAttackList holds that the docs have the attacks as they are tried.
func TestAttackList(t *testing.T) {
	var text strings.Builder
	n := 0
	text.WriteString("<!-- Generated by `go test ./internal/e2e -run TestAttackList -update`; do not edit. -->\n\n# Attacks that are tried\n\n")
	for _, s := range surfaces {
		fmt.Fprintf(&text, "## %s\n\n| | the attacker | what it gets | the head's log says |\n| --: | --- | --- | --- |\n", s.name)
		for _, a := range s.attacks {
			n++
			cell := func(texts []string) string {
				var quoted []string
				for _, one := range texts {
					quoted = append(quoted, "`"+strings.ReplaceAll(one, "|", "\\|")+"`")
				}
				return strings.Join(quoted, " ")
			}
			if len(a.gets) == 0 && len(a.logged) == 0 {
				t.Errorf("%s: nothing says that it is refused", a.does)
			}
			fmt.Fprintf(&text, "| %d | %s | %s | %s |\n", n, a.does, cell(a.gets), cell(a.logged))
		}
		text.WriteString("\n")
	}
	const about = "# Attacks that are tried\n\n"
	intro := fmt.Sprintf("The tests try each of these %d from another machine against a cluster with TLS (`internal/e2e`, TestAttacks), and see that it goes on as before.\n"+
		"[SECURITY.md](../../SECURITY.md) says what is defended, and what is not.\n\n", n)
	want := strings.TrimRight(strings.Replace(text.String(), about, about+intro, 1), "\n") + "\n"
	if n < 40 {
		t.Errorf("%d attacks", n)
	}
	var all []string
	for _, s := range surfaces {
		for _, a := range s.attacks {
			all = append(all, a.does)
		}
	}
	if slices.Sort(all); len(slices.Compact(all)) != n {
		t.Error("an attack is there twice")
	}
	path := filepath.Join(testenv.Root(t), "docs", "reference", "attacks.md")
	if *updateAttacks {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the tests try (%v): go test ./internal/e2e -run TestAttackList -update", path, err)
	}
}
