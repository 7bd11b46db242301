package blob

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/f708428e/engine"
)

// metadataAddresses are those of metadata services that are not of the link.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("168.63.129.16"),
}

// IsMetadataAddress tells whether an address is one at which clouds give credentials to whoever asks from the machine: one of the link, or one
// of the few others that are known.
func IsMetadataAddress(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return address.IsLinkLocalUnicast() || slices.Contains(metadataAddresses, address)
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
