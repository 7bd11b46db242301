//go:build !linux

package access

import (
	"net"

	"github.com/f708428e/engine"
)

func userOf(net.Addr, net.Addr) (int, error) {
	return 0, engine.Errorf(engine.KindUnavailable, "find user of connection", "", "this system does not say whose a connection is")
}

// kernelTells says that this system tells whose a connection over loopback is.
const kernelTells = false
