package blob

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/f708428e/engine"
)

// metadataAddresses are those of metadata services that are not of the link: of AWS, Google, Oracle, Scaleway, Linode, Alibaba, Oracle's first
// cloud, and Azure.
var metadataAddresses = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("fd20:ce::254/128"), netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"),
	netip.MustParsePrefix("fd00:42::42/128"), netip.MustParsePrefix("fd00:a9fe:a9fe::/64"),
	netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("192.0.0.192/32"), netip.MustParsePrefix("168.63.129.16/32"),
}

// nat64 has IPv4 addresses in its last four bytes (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// IsMetadataAddress tells whether an address is one at which clouds give credentials to whoever asks from the machine: one of the link, or one
// of the few others that are known.
func IsMetadataAddress(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	if nat64.Contains(address) {
		bytes := address.As16()
		address = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return address.IsLinkLocalUnicast() || slices.ContainsFunc(metadataAddresses, func(p netip.Prefix) bool { return p.Contains(address) })
}

// RefuseMetadata is net.Dialer.Control for connections to what a job or a configuration names: it refuses, with an error of kind
// engine.KindPermission, the addresses of metadata services, whatever name has led there. No store, database, or hub has one.
func RefuseMetadata(network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err == nil && IsMetadataAddress(ip) {
		return engine.Errorf(engine.KindPermission, "connect", address, "this is the address of a metadata service, which gives credentials of the machine")
	}
	return nil
}
