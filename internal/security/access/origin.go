package access

import (
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
)

// Origin is where a connection comes from: the address that a Guard's listener gives it. It is safe for concurrent use.
type Origin struct {
	net.Addr
	// local is the connection's other end, which is this process's.
	local net.Addr
	once  sync.Once
	uid   int
	err   error
	// known is set when somebody has made a call over the connection who has shown who he is, or a token. Until then little is read.
	known atomic.Bool
	// pending counts the calls under way over the connection whose credential is being looked at while nobody is known.
	pending atomic.Int64
}

// User returns the number of the user of this machine who has made the connection. It is an error for one that does not come over
// loopback, of whose other end the kernel knows nothing any more, or on a system that does not tell.
func (o *Origin) User() (uid int, err error) {
	o.once.Do(func() { o.uid, o.err = userOf(o.Addr, o.local) })
	return o.uid, o.err
}

// CheckOwnUser returns nil if a connection was made by the user of this process, on this machine, and an error of kind
// engine.KindUnauthenticated otherwise. Where the system does not tell, loopback is one user.
func CheckOwnUser(conn net.Conn) error {
	if isInProcess(conn.LocalAddr()) {
		return nil
	}
	origin := &Origin{Addr: conn.RemoteAddr(), local: conn.LocalAddr()}
	uid, err := origin.User()
	switch {
	case err != nil && !kernelTells && isLoopback(origin):
		return nil
	case err != nil:
		return engine.Errorf(engine.KindUnauthenticated, "accept", origin.String(), "it is not known which user of this machine has connected, and without TLS nothing else says who it is: %w", err)
	case uid != os.Getuid() || isAmbiguous(uid):
		return engine.Errorf(engine.KindUnauthenticated, "accept", origin.String(), "%s is another user of this machine than the one whose cluster this is", userName(uid))
	}
	return nil
}

// isInProcess reports whether an address is that of a connection through memory, which nobody outside of this process can make.
func isInProcess(address net.Addr) bool {
	if address == nil {
		return false
	}
	switch address.Network() {
	case "bufconn", "pipe":
		return true
	default:
		return false
	}
}

// source is who counts as one for what strangers may take: a host, or a user of this machine. All that have one network of 64 bits are one,
// since each host there has as many addresses as it likes.
func source(address net.Addr) string {
	host := hostOrUser(address)
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Unmap().Is4() {
		return host
	}
	network, err := ip.Prefix(networkBits)
	if err != nil {
		return host
	}
	return network.String()
}

// networkBits is how much of an IPv6 address a host cannot choose.
const networkBits = 64

// hostOrUser is who counts as one for connections, of which the nodes of a cluster in one network have many.
func hostOrUser(address net.Addr) string {
	if origin, ok := address.(*Origin); ok {
		if uid, err := origin.User(); err == nil {
			return "user " + strconv.Itoa(uid)
		}
	}
	if address == nil {
		return "unknown"
	}
	host, _, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	return host
}

// userName is how a user of this machine is called.
func userName(uid int) string {
	if known, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return known.Username
	}
	return "uid " + strconv.Itoa(uid)
}
