//go:build linux

package fdstream

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// streams returns the two ends of a connection.
func streams(t *testing.T) (ends [2]*Stream) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		ends[i] = New(conn.(*net.UnixConn), 1<<20)
	}
	return ends
}

// TestDescriptorsOfTwoWrites sends more messages with a descriptor than go with one write. The receiver reads in such pieces that the
// second write's descriptors come before those of the first are claimed.
func TestDescriptorsOfTwoWrites(t *testing.T) {
	ends := streams(t)
	send := func(bytes int, file *os.File) {
		buffer, ok := ends[0].Begin(false)
		if !ok {
			t.Fatal(ends[0].Failed())
		}
		ends[0].Commit(append(buffer, make([]byte, bytes)...), file)
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
	ends[0].Flush()
	if err := ends[0].Failed(); err != nil {
		t.Fatal(err)
	}
	defer ends[1].CloseReceived()
	for range messages + 1 {
		message, err := ends[1].Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(message) != 8 {
			continue
		}
		file := ends[1].File("received")
		if file == nil {
			t.Fatal("a message came without its descriptor")
		}
		_ = file.Close()
	}
}
