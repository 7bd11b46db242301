//go:build linux

package local

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// streams returns the two ends of a connection.
func streams(t *testing.T) (ends [2]*stream) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		closeFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		ends[i] = newStream(conn.(*net.UnixConn))
	}
	return ends
}

// TestDescriptorsOfTwoWrites sends more messages with a descriptor than go with one write. The receiver reads in such pieces that the
// second write's descriptors come before those of the first are claimed.
func TestDescriptorsOfTwoWrites(t *testing.T) {
	ends := streams(t)
	send := func(bytes int, file *os.File) {
		buffer, ok := ends[0].begin(false)
		if !ok {
			t.Fatal(ends[0].failed())
		}
		ends[0].commit(append(buffer, make([]byte, bytes)...), file)
	}
	const messages = 2 * maxFiles
	for i := range messages {
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		send(8, file)
		if i == 0 {
			send(bufferBytes, nil)
		}
	}
	ends[0].flush()
	if err := ends[0].failed(); err != nil {
		t.Fatal(err)
	}
	defer ends[1].closeReceived()
	for range messages + 1 {
		message, err := ends[1].receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(message) != 8 {
			continue
		}
		file := ends[1].file("received")
		if file == nil {
			t.Fatal("a message came without its descriptor")
		}
		closeFile(file)
	}
}
