package pki

import (
	"net"
	"net/netip"
	"sync"
)

// crowd counts the handshakes that are under way on a port, by source. A source may have as many as are still free: one alone half of all, and
// however many there are, another one gets in. It is safe for concurrent use.
type crowd struct {
	most int

	mu  sync.Mutex
	all int
	of  map[netip.Prefix]int
}

func newCrowd(most int) *crowd { return &crowd{most: most, of: map[netip.Prefix]int{}} }

// enter counts one more of a source, until leave; false if that is too many.
func (c *crowd) enter(source netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[source] >= c.most-c.all {
		return false
	}
	c.all++
	c.of[source]++
	return true
}

func (c *crowd) leave(source netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.of[source]--; c.of[source] == 0 {
		delete(c.of, source)
	}
}

// networkBits is how much of an IPv6 address a host cannot choose.
const networkBits = 64

// sourceOf is who counts as one: an IPv4 address, or a network of IPv6. What has no IP address is one together.
func sourceOf(address net.Addr) netip.Prefix {
	known, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := known.Addr().Unmap().WithZone(""), networkBits
	if ip.Is4() {
		bits = ip.BitLen()
	}
	source, _ := ip.Prefix(bits) // The number of bits is right.
	return source
}
