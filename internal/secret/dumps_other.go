//go:build !linux

package secret

// KeepFromDumps sees to it that this process leaves no core dump, where the system can do that. It returns whether it does.
func KeepFromDumps() bool { return false }
