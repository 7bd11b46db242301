package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch    = unix.AUDIT_ARCH_AARCH64
	foreignCalls = 0
)

// archCalls are refused calls that other architectures do not have.
var archCalls []uint32
