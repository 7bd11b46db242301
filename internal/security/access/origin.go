package access

import (
	"net"
	"os/user"
	"strconv"
	"sync"
)

// Origin is where a connection comes from: the address that a Guard's listener gives it. It is safe for concurrent use.
type Origin struct {
	net.Addr
	// local is the connection's other end, which is this process's.
	local net.Addr
	once  sync.Once
	uid   int
	err   error
}

// User returns the number of the user of this machine who has made the connection. It is an error for one that does not come over
// loopback, of whose other end the kernel knows nothing any more, or on a system that does not tell.
func (o *Origin) User() (uid int, err error) {
	o.once.Do(func() { o.uid, o.err = userOf(o.Addr, o.local) })
	return o.uid, o.err
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

// source is who counts as one for what strangers may take: a host, or a user of this machine.
func source(address net.Addr) string {
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
