//go:build !linux

package local

import (
	"net"
	"os"
)

const supported = false

func peerOf(*net.UnixConn) (Peer, error) { return Peer{}, errUnsupported("connect") }

func hungUp(*net.UnixConn) bool { return true }

func lockFile(string) (*os.File, error) { return nil, errUnsupported("listen") }

func withShortPath(string, func(string) error) error { return errUnsupported("connect") }

func readProcess(int32, []byte, batch) error { return errUnsupported(opPut) }

func readFile(*os.File, []byte, batch) error { return errUnsupported(opPut) }

func checkMemfd(*os.File) error { return errUnsupported(opPut) }

func makeMemfd(int64, func([]byte)) (*os.File, error) { return nil, errUnsupported(opPut) }

func allowReading(*net.UnixConn) {}

func addressOf([]byte) uint64 { return 0 }

func duplicate(*os.File) (*os.File, error) { return nil, errUnsupported(opPut) }
