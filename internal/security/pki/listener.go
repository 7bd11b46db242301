package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"github.com/f708428e/engine/internal/handover"
	"github.com/f708428e/engine/internal/lifecycle"
)

const (
	// handshakeWithin is how long a handshake may take, and handshakesAtOnce how many may be under way on a port, see crowd: what comes then is
	// closed.
	handshakeWithin  = 10 * time.Second
	handshakesAtOnce = 512
)

// listener delivers connections whose handshake is over, as *tls.Conn. Each has a goroutine until then, so that none holds up another.
type listener struct {
	*handover.Listener
	inner    net.Listener
	identity *Identity
	accept   Accept
	group    *lifecycle.Group
	crowd    *crowd
}

// Listen makes a listener of TLS connections from those that another one accepts, which it closes with itself. Accept returns *tls.Conn whose
// handshake is over and whose peer was verified; those that are refused are logged with their reason.
func (i *Identity) Listen(inner net.Listener, accept Accept) net.Listener {
	l := &listener{
		Listener: handover.New(inner.Addr()), inner: inner, identity: i, accept: accept,
		group: lifecycle.NewGroup(context.Background(), "tls "+accept.Link), crowd: newCrowd(handshakesAtOnce),
	}
	l.group.Go("accept", l.run)
	return l
}

func (l *listener) run(ctx context.Context) error {
	l.Fail(handover.AcceptAll(ctx, l.inner, func(conn net.Conn) {
		source := sourceOf(conn.RemoteAddr())
		if !l.crowd.enter(source) {
			_ = conn.Close() // Nothing was read or written.
			l.identity.refusals.log(ctx, l.accept.Link, conn.RemoteAddr(), refuse(Crowded, "", "too many handshakes are under way, from %s or in all", source))
			return
		}
		if !l.group.Go("handshake", func(ctx context.Context) error {
			defer l.crowd.leave(source)
			l.shake(ctx, conn)
			return nil
		}) {
			l.crowd.leave(source)
			_ = conn.Close() // The port is being closed.
		}
	}))
	return nil
}

// shake does the handshake, and hands the connection on.
func (l *listener) shake(ctx context.Context, raw net.Conn) {
	within, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	tracked := l.identity.conns.track(raw)
	conn := tls.Server(tracked, l.identity.serverConfig(l.accept))
	err := conn.HandshakeContext(within)
	if err == nil {
		err = l.identity.admit(tracked, conn)
	}
	if err != nil {
		if refusal := l.classify(err); refusal != nil && ctx.Err() == nil {
			l.identity.refusals.log(ctx, l.accept.Link, raw.RemoteAddr(), refusal)
			bidFarewell(within, tracked)
		}
		_ = tracked.Close() // It is of no use.
		return
	}
	if !l.Deliver(&secureConn{Conn: conn, below: tracked}) {
		_ = conn.Close() // Nobody will take it.
	}
}

// classify is classify for what TLS itself has found wrong with a certificate, too.
func (l *listener) classify(err error) *Refusal {
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		if _, refusal := l.identity.verify(unverified.UnverifiedCertificates, x509.ExtKeyUsageClientAuth, l.accept.Roles); refusal != nil {
			return refusal
		}
	}
	return classify(err)
}

const (
	// farewellWithin and farewellBytes bound what is read of a connection that was refused.
	farewellWithin = time.Second
	farewellBytes  = 64 << 10
)

// bidFarewell lets the other end read why it was refused: a connection that is closed while there is something to read in it takes back what
// was written to it. It ends when the other end has closed it, or ctx ends.
func bidFarewell(ctx context.Context, conn *trackedConn) {
	half, ok := conn.NetConn().(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(farewellWithin)) != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, _ = io.CopyN(io.Discard, conn, farewellBytes) // It is refused whatever it says.
}

// Close implements net.Listener. It waits for the handshakes that are under way, which it cuts off.
func (l *listener) Close() error {
	l.Fail(net.ErrClosed)
	err := l.inner.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, l.group.Stop(context.Background()))
}
