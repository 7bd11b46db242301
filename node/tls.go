package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TLSConfig says how a node's links are encrypted, and how it gets its certificates. Its zero value is clear text for a node on loopback, and
// for one that other machines reach TLS with certificates of the cluster's own authority.
type TLSConfig struct {
	// Secure makes a node on loopback have TLS, too.
	Secure bool
	// Insecure makes a head that other machines reach have none. It is for those who have something before it that does TLS.
	Insecure bool
	// CA, Cert, and Key are files in PEM that somebody else keeps up to date, instead of the cluster's own authority.
	CA, Cert, Key string
	// Token lets a node join that has no certificate yet.
	Token string
	// Name is what the node is called in its certificates. Empty means the name from before, or one made of the host's.
	Name string
	// Life is that of certificates that the head signs. Zero means a day.
	Life time.Duration
	// Dir is the data folder that keeps the certificates. A head has its DataDir.
	Dir string
	// Host is what a worker listens on for others, and Advertise where they reach it. Empty means the address from which it reaches its head,
	// and Host; for a head, which has its own Host, Advertise empty means that, or an address of this machine if it is all of them.
	Host, Advertise string
}

func (c TLSConfig) hasFiles() bool { return c.CA != "" || c.Cert != "" || c.Key != "" }

func (c TLSConfig) files() pki.Files { return pki.Files{CA: c.CA, Cert: c.Cert, Key: c.Key} }

// links are a node's identity and what keeps it. A nil one is clear text on loopback.
type links struct {
	identity *pki.Identity
	// authority is nil for workers, and for nodes with files.
	authority *pki.Authority
	life      time.Duration
	// host is what a worker listens on, advertise where others reach the node.
	host, advertise string
	group           *lifecycle.Group
	logger          *slog.Logger
	// follows says that a head tells what is revoked, and renews the certificate if dir is not empty.
	follows bool
	// dir is the folder of certificates; empty for a node with files.
	dir  string
	keys gossipKeys
}

// needsTLS tells whether a head is to have TLS, or refuses what nobody should ask for.
func (c TLSConfig) needsTLS(ctx context.Context, host string, logger *slog.Logger) (bool, error) {
	exposed := CheckHost(ctx, host) != nil
	switch {
	case c.Insecure && (c.Secure || c.hasFiles() || c.Token != ""):
		return false, engine.Errorf(engine.KindInvalidArgument, "listen", host, "links cannot be both insecure and encrypted")
	case c.Insecure && exposed:
		logger.WarnContext(ctx, "links to other machines are in clear text: whoever is in between reads and changes what they carry, tokens included", "host", host)
		return false, nil //nolint:nilerr // CheckHost's error says no more than that the address is exposed.
	default:
		return exposed || c.Secure || c.hasFiles() || c.Token != "", nil //nolint:nilerr // See above.
	}
}

// openHeadLinks makes the identity of a head: from files, from its own authority, which it makes if there is none, or from the heads at join.
// It is nil for a head in clear text.
func openHeadLinks(ctx context.Context, config HeadConfig) (*links, error) {
	if secure, err := config.TLS.needsTLS(ctx, config.Host, config.Logger); err != nil || !secure {
		return nil, err
	}
	l := &links{
		life: config.TLS.Life, host: config.Host, advertise: config.TLS.Advertise, group: lifecycle.NewGroup(context.WithoutCancel(ctx), "certificates"),
		logger: config.Logger,
	}
	if err := l.openHead(ctx, config); err != nil {
		return nil, errors.Join(err, cleanUp(ctx, l.stop))
	}
	return l, nil
}

func (l *links) openHead(ctx context.Context, config HeadConfig) (err error) {
	c := config.TLS
	if l.advertise == "" {
		if l.advertise, err = reachable(config.Host); err != nil {
			return err
		}
	}
	if c.hasFiles() {
		return l.openFiles(c, pki.RoleHead)
	}
	dir, err := pki.OpenFolder(config.DataDir)
	if err != nil {
		return err
	}
	l.dir = dir
	name, err := nodeName(c.Name, dir)
	if err != nil {
		return err
	}
	request := pki.Request{Name: name, Role: pki.RoleHead, Hosts: hostsOf(config.Host, l.advertise), Life: c.Life}
	if l.authority, err = openAuthority(ctx, config, dir, request); err != nil {
		return err
	}
	if l.identity, err = l.authority.Head(request, pki.Options{Logger: config.Logger}); err != nil {
		return err
	}
	save := func(cert, key []byte) error {
		return errors.Join(pki.SaveNode(dir, cert, key), l.authority.WriteAdmin(dir, c.Life, time.Now()))
	}
	if err := l.authority.WriteAdmin(dir, c.Life, time.Now()); err != nil {
		return err
	}
	renew := l.authority.Renewal(request, time.Now)
	l.group.Go("renew", func(ctx context.Context) error { return l.identity.Renew(ctx, renew, save) })
	return nil
}

// openAuthority returns the authority of a head's folder. A new head that is to join others gets it from them.
func openAuthority(ctx context.Context, config HeadConfig, dir string, request pki.Request) (*pki.Authority, error) {
	a, err := pki.LoadAuthority(dir)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return a, err
	}
	if config.Join == "" {
		a, made, err := pki.OpenAuthority(dir, time.Now())
		if made {
			config.Logger.InfoContext(ctx, "the cluster has an authority of its own now", "folder", dir, "fingerprint", a.Fingerprint())
		}
		return a, err
	}
	if config.TLS.Token == "" {
		return nil, engine.Errorf(engine.KindUnauthenticated, opJoin, config.Join, "a head that joins others over TLS needs a token").
			WithHint("make one at one of them: `engine node token --role head`")
	}
	joined, err := join(ctx, config.Join, config.TLS.Token, request)
	if err != nil {
		return nil, err
	}
	if a, err = pki.ParseAuthority(joined.response.GetAuthorityKey()); err != nil {
		return nil, err
	}
	err = a.Save(dir)
	return a, err
}

// openFiles makes the identity of certificates that somebody else keeps up to date.
func (l *links) openFiles(c TLSConfig, role string) (err error) {
	if c.Token != "" {
		return engine.Errorf(engine.KindInvalidArgument, opJoin, "", "a node with certificates of its own needs no token")
	}
	if c.Cert == "" || c.CA == "" {
		return engine.Errorf(engine.KindInvalidArgument, "read certificate", "", "the authority's certificate, one of the node, and its key are required")
	}
	if l.identity, err = c.files().Open(pki.Options{Logger: l.logger}); err != nil {
		return err
	}
	if is := l.identity.Peer().Role; is != role {
		return engine.Errorf(engine.KindInvalidArgument, "read certificate", c.Cert, "it is that of a %q, and this node is a %s", is, role).
			WithHint("its name must be engine://cluster/NAME/role/%s/name/NODE, as a URI among its subject alternative names", role)
	}
	l.group.Go("reload", func(ctx context.Context) error { return c.files().Reload(ctx, l.identity, 0) })
	return nil
}

// openWorkerLinks makes the identity of a worker of the heads at address: from files, from the folder of a worker that has joined before, or
// by a token. It is nil for a worker in clear text.
func openWorkerLinks(ctx context.Context, address string, c TLSConfig, logger *slog.Logger) (*links, error) {
	if !c.ForWorker(ctx, address) {
		return nil, nil
	}
	l := &links{
		host: c.Host, advertise: c.Advertise, group: lifecycle.NewGroup(context.WithoutCancel(ctx), "certificates"), logger: logger, follows: true,
		keys: gossipKeys{changed: make(chan struct{})},
	}
	if err := l.openWorker(ctx, address, c); err != nil {
		return nil, errors.Join(err, cleanUp(ctx, l.stop))
	}
	return l, nil
}

func (l *links) openWorker(ctx context.Context, address string, c TLSConfig) (err error) {
	if l.host == "" {
		if l.host, err = localHost(ctx, address); err != nil {
			return err
		}
	}
	if l.advertise == "" {
		if l.advertise, err = reachable(l.host); err != nil {
			return err
		}
	}
	if c.hasFiles() {
		return l.openFiles(c, pki.RoleWorker)
	}
	if l.dir, err = pki.OpenFolder(c.Dir); err != nil {
		return err
	}
	name, err := nodeName(c.Name, l.dir)
	if err != nil {
		return err
	}
	request := pki.Request{Role: pki.RoleWorker, Name: name, Hosts: hostsOf(l.host, l.advertise)}
	if l.identity, err = rejoin(ctx, l.dir, address, c.Token, request, l.logger); err != nil {
		return err
	}
	err = l.probe(ctx, address)
	rejected := l.identity.Rejected()
	if err == nil || rejected == nil || c.Token == "" || rejected.Reason != pki.Revoked && rejected.Reason != pki.ForeignAuthority {
		return err
	}
	// The certificate is one from before: nobody refuses what was signed a moment ago.
	l.logger.WarnContext(ctx, "the certificate from before is refused; the node joins again", "error", err)
	l.identity.Close()
	if l.identity, err = joinAnew(ctx, l.dir, address, c.Token, request, l.logger); err != nil {
		return err
	}
	return l.probe(ctx, address)
}

// probe asks the heads for something, once: a worker that runs goes on trying for ever, but at the start a wrong address, or a certificate that
// nobody accepts, is more likely. The error of one that was refused is of kind engine.KindUnauthenticated and says why.
func (l *links) probe(ctx context.Context, address string) error {
	conn, err := rpc.DialHeads(address, l.dialOptions()...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	_, err = enginev1.NewClusterServiceClient(conn).GetCluster(ctx, &enginev1.GetClusterRequest{})
	if rejected := l.identity.Rejected(); err != nil && rejected != nil {
		err = rejected.Unwrap()
	}
	return errors.Join(err, conn.Close())
}

// ForWorker tells whether a worker of the heads at address is to have TLS.
func (c TLSConfig) ForWorker(ctx context.Context, address string) bool {
	if CheckAddress(ctx, address) != nil || c.Secure || c.hasFiles() || c.Token != "" {
		return true
	}
	return c.Dir != "" && pki.HasJoined(c.Dir)
}

// rejoin returns the identity of a folder whose certificate is good, else it joins.
func rejoin(ctx context.Context, dir, address, text string, request pki.Request, logger *slog.Logger) (*pki.Identity, error) {
	options := pki.Options{Logger: logger}
	known, loadErr := pki.LoadNode(dir, options)
	if loadErr != nil && !errors.Is(loadErr, os.ErrNotExist) {
		return nil, loadErr
	}
	if text == "" {
		if loadErr != nil {
			return nil, engine.Errorf(engine.KindUnauthenticated, opJoin, address, "this node has no certificate, and needs a token to get one").
				WithHint("make one at a head, `engine node token`, and start the node with --token")
		}
		err := known.CheckEnds()
		return known, err
	}
	token, err := pki.ParseJoinToken(text)
	if err != nil {
		return nil, err
	}
	if loadErr == nil && known.Fingerprint() == token.Fingerprint() && known.CheckEnds() == nil && known.Peer().Name == request.Name {
		logger.InfoContext(ctx, "the node has joined before, and needs no token", "name", request.Name, "ends", known.Ends())
		return known, nil
	}
	return joinAnew(ctx, dir, address, text, request, logger)
}

// joinAnew joins by a token, and keeps what comes of it in the folder.
func joinAnew(ctx context.Context, dir, address, text string, request pki.Request, logger *slog.Logger) (*pki.Identity, error) {
	joined, err := join(ctx, address, text, request)
	if err != nil {
		return nil, err
	}
	if joined.ahead.Abs() > skewWorthALine {
		logger.WarnContext(ctx, "the clock of this machine is wrong, or that of the head is", "ahead_of_head", joined.ahead.Round(time.Second))
	}
	if err := joined.save(dir); err != nil {
		return nil, err
	}
	identity, err := pki.NewNode(joined.response.GetCertificate(), joined.key, joined.response.GetAuthority(), pki.Options{Logger: logger})
	if err != nil {
		return nil, err
	}
	logger.InfoContext(ctx, "the node has joined", "peer", identity.Peer().String(), "cluster", identity.Peer().Cluster, "serial", identity.Peer().Serial, "ends", identity.Ends())
	return identity, nil
}

// follow keeps a worker's identity by what its heads say over conn.
func (l *links) follow(conn grpc.ClientConnInterface) {
	if l == nil || !l.follows {
		return
	}
	service := enginev1.NewJoinServiceClient(conn)
	l.group.Go("trust", func(ctx context.Context) error { return l.watchTrust(ctx, service) })
	if l.dir == "" {
		return // Files are renewed by somebody else.
	}
	hosts := hostsOf(l.host, l.advertise)
	renew := func(ctx context.Context, csr []byte) (pki.Issued, error) {
		response, err := service.RenewCertificate(ctx, &enginev1.RenewCertificateRequest{Csr: csr, Hosts: hosts})
		return pki.Issued{Certificate: response.GetCertificate()}, err
	}
	l.group.Go("renew", func(ctx context.Context) error {
		return l.identity.Renew(ctx, renew, func(cert, key []byte) error { return pki.SaveNode(l.dir, cert, key) })
	})
}

// watchTrust takes over what is revoked, and the keys of the gossip, until ctx ends.
func (l *links) watchTrust(ctx context.Context, service enginev1.JoinServiceClient) error {
	var backoff rpc.Backoff
	for ctx.Err() == nil {
		stream, err := service.WatchTrust(ctx, &enginev1.WatchTrustRequest{})
		for err == nil {
			var news *enginev1.WatchTrustResponse
			if news, err = stream.Recv(); err == nil {
				l.identity.Revoke(news.GetRevoked())
				l.keys.set(news.GetGossipKeys())
				backoff.Reset()
			}
		}
		if ctx.Err() == nil && backoff.Fresh() {
			l.logger.InfoContext(ctx, "the head does not tell which certificates are revoked; those from before are", "error", err)
		}
		backoff.Wait(ctx, nil)
	}
	return nil
}

// listen makes a listener do TLS.
func (l *links) listen(listener net.Listener, accept pki.Accept) net.Listener {
	if l == nil {
		return listener
	}
	return l.identity.Listen(listener, accept)
}

// everybody are all that have a certificate.
var everybody = []string{pki.RoleHead, pki.RoleWorker, pki.RoleAdmin}

// Who is accepted on the links of a node. Whoever shows no certificate has to show a token with each call, which is not looked at here.
var (
	acceptHead = pki.Accept{
		Link: "head", Roles: everybody, Anonymous: true, Protocols: []string{pki.ProtocolGRPC, pki.ProtocolRaft},
		ByProtocol: map[string][]string{pki.ProtocolRaft: {pki.RoleHead}},
	}
	acceptWeb    = pki.Accept{Link: "web", Roles: everybody, Anonymous: true, Protocols: []string{pki.ProtocolHTTP}}
	acceptFlight = pki.Accept{
		Link: "flight", Roles: everybody, Anonymous: true, Protocols: []string{pki.ProtocolGRPC, pki.ProtocolObjects},
		ByProtocol: map[string][]string{pki.ProtocolObjects: {pki.RoleHead, pki.RoleWorker}},
	}
)

// dialOptions are those of connections to heads.
func (l *links) dialOptions() []grpc.DialOption {
	if l == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(l.identity.ClientCredentials(pki.RoleHead))}
}

// dialFlight makes connections to Flight services, which workers have, and heads beside which there is one. It is nil for clear text.
func (l *links) dialFlight() func(address string) (grpc.ClientConnInterface, io.Closer, error) {
	if l == nil {
		return nil
	}
	return func(address string) (grpc.ClientConnInterface, io.Closer, error) {
		conn, err := grpc.NewClient(address, append(transfer.DialOptions(),
			grpc.WithTransportCredentials(l.identity.ClientCredentials(pki.RoleWorker, pki.RoleHead)))...)
		if err != nil {
			return nil, nil, engine.Errorf(engine.KindInvalidArgument, "dial", address, "%w", err)
		}
		return conn, conn, nil
	}
}

// dialBulk connects to Flight services for large objects. It is nil for clear text.
func (l *links) dialBulk() func(ctx context.Context, address string) (net.Conn, error) {
	if l == nil {
		return nil
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		return l.identity.Dial(ctx, address, pki.ProtocolObjects, pki.RoleWorker, pki.RoleHead)
	}
}

// gossipKeys are the keys of the gossip as a head has told them; nil for clear text.
func (l *links) gossipKeys() func() ([][]byte, <-chan struct{}) {
	if l == nil {
		return nil
	}
	return l.keys.get
}

// security is what a head has of its links.
func (l *links) security(c TLSConfig) head.Security {
	if l == nil {
		return head.Security{Exposed: c.Insecure}
	}
	return head.Security{Identity: l.identity, Authority: l.authority, Life: l.life}
}

// nodeName is what the node's id begins with: the name in its certificate, which the head compares.
func (l *links) nodeName() string {
	if l == nil {
		return hostName()
	}
	return l.identity.Peer().Name
}

func (l *links) webScheme() string {
	if l == nil {
		return "http://"
	}
	return "https://"
}

// flightHost is what the node's Flight service listens on.
func (l *links) flightHost() string {
	if l == nil {
		return "127.0.0.1"
	}
	return l.host
}

// gossipHost is the IP address on which the node gossips: host in clear text, else where others reach it.
func (l *links) gossipHost(host string) string {
	if l == nil || net.ParseIP(l.advertise) == nil {
		return host
	}
	return l.advertise
}

// stop ends what keeps the identity, and its connections.
func (l *links) stop(ctx context.Context) error {
	if l == nil {
		return nil
	}
	err := l.group.Stop(ctx)
	if l.identity != nil {
		l.identity.Close()
	}
	return err
}

// gossipKeys are keys that a head tells. They are safe for concurrent use.
type gossipKeys struct {
	mu      sync.Mutex
	present [][]byte
	changed chan struct{}
}

func (k *gossipKeys) set(keys [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.present = keys
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *gossipKeys) get() ([][]byte, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.present, k.changed
}

// nodeName is what a node is called: as it is asked for, as it was called before, or by its host.
func nodeName(asked, dir string) (string, error) {
	if asked != "" {
		if id := string(engine.NewNodeID(asked)); !strings.HasPrefix(id, asked+"-") {
			return "", engine.Errorf(engine.KindInvalidArgument, "name node", asked, "expected up to 32 lower-case letters, digits, and - between them")
		}
		return asked, nil
	}
	if known, err := pki.LoadNode(dir, pki.Options{}); err == nil {
		return known.Peer().Name, nil
	}
	// An id of the node has to have room for it, and for what it adds.
	const most = 20
	host := hostName()
	return string(engine.NewNodeID(host[:min(len(host), most)])), nil
}

// hostsOf are the names at which a node may be looked for, for programs that compare them with its certificate.
func hostsOf(host, advertise string) []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, other := range []string{host, advertise, hostName()} {
		if ip := net.ParseIP(other); other != "" && !slices.Contains(hosts, other) && (ip == nil || !ip.IsUnspecified()) {
			hosts = append(hosts, other)
		}
	}
	return hosts
}

// reachable is the address at which others reach one who listens on host.
func reachable(host string) (string, error) {
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsUnspecified() {
		return host, nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", engine.Errorf(engine.KindUnavailable, "find address", host, "%w", err).WithHint("--advertise names it")
	}
	var found net.IP
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || !network.IP.IsGlobalUnicast() {
			continue
		}
		if network.IP.To4() != nil {
			return network.IP.String(), nil
		}
		found = network.IP
	}
	if found == nil {
		return "", engine.Errorf(engine.KindInvalidArgument, "find address", host, "this machine has no address that others can reach").WithHint("--advertise names it")
	}
	return found.String(), nil
}

// localHost is the address of this machine from which the first of the heads at list is reached.
func localHost(ctx context.Context, list string) (string, error) {
	addresses, err := rpc.SplitAddresses(list)
	if err != nil {
		return "", err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", addresses[0]) // Nothing is sent.
	if err != nil {
		return "", engine.Errorf(engine.KindUnavailable, "connect", addresses[0], "%w", err)
	}
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, errors.Join(err, conn.Close())
}

// advertised is where others reach a head with links l; empty in clear text on loopback.
func (c HeadConfig) advertised(l *links) (string, error) {
	switch {
	case l != nil:
		return l.advertise, nil
	case !c.TLS.Insecure:
		return "", nil
	case c.TLS.Advertise != "":
		return c.TLS.Advertise, nil
	default:
		return reachable(c.Host)
	}
}

// at is where others reach a listener of the node.
func (l *links) at(listener net.Listener) string {
	if l == nil {
		return addressOf(listener, "")
	}
	return addressOf(listener, l.advertise)
}

// addressOf is an advertised address with the port of a listener, or if it is empty that of the listener.
func addressOf(listener net.Listener, advertised string) string {
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && advertised != "" {
		return net.JoinHostPort(advertised, strconv.Itoa(tcp.Port))
	}
	return listener.Addr().String()
}
