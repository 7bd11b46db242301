package access_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
)

// pair makes both ends of a connection over loopback, the accepted one by a Guard's listener.
func pair(t *testing.T, address string) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	guarded := newGuard(t, access.Config{}).Listen(listener)
	t.Cleanup(func() { check(t, guarded.Close()) })
	client, err = net.Dial("tcp", listener.Addr().String())
	check(t, err)
	server, err = guarded.Accept()
	check(t, err)
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func TestKernelTellsWhoseAConnectionIs(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := pair(t, address)
		uid, err := server.RemoteAddr().(*access.Origin).User()
		if err != nil || uid != os.Getuid() {
			t.Errorf("%s: user %d, %v", address, uid, err)
		}
		uid, err = access.ReadTable(client.LocalAddr().(*net.TCPAddr), client.RemoteAddr().(*net.TCPAddr))
		if err != nil || uid != os.Getuid() {
			t.Errorf("%s: the table says user %d, %v", address, uid, err)
		}
	}
}

// TestClosedConnectionIsNobodys is the trick of whoever sends something and closes: the kernel then says that the socket is root's.
func TestClosedConnectionIsNobodys(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { check(t, listener.Close()) }()
	client, err := net.Dial("tcp", listener.Addr().String())
	check(t, err)
	accepted, err := listener.Accept()
	check(t, err)
	defer func() { check(t, accepted.Close()) }()
	_, err = client.Write([]byte("PRI"))
	check(t, err)
	check(t, client.Close())
	// Reading to the end makes sure that the close has arrived.
	buffer := make([]byte, 10)
	for err == nil {
		_, err = accepted.Read(buffer)
	}
	from, to := accepted.RemoteAddr().(*net.TCPAddr), accepted.LocalAddr().(*net.TCPAddr)
	_, err = access.UserOf(from, to)
	wantKind(t, err, engine.KindUnauthenticated, "closed")
	_, err = access.ReadTable(from, to)
	wantKind(t, err, engine.KindUnauthenticated, "closed")
}

func TestTableOfSockets(t *testing.T) {
	from, to := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 0xa0da}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 0xb1d5}
	line := func(own, peer, state, uid, inode string) string {
		return "   2: " + own + " " + peer + " " + state + " 00000000:00000000 00:00000000 00000000 " + uid + " 0 " + inode + " 2 000000000cfcf45b 20 0 0 10 -1\n"
	}
	const own, peer = "0100007F:A0DA", "0100007F:B1D5"
	for name, test := range map[string]struct {
		table string
		want  int
	}{
		"found":          {line(own, peer, "01", "1000", "7"), 1000},
		"other way":      {line(peer, own, "01", "1000", "7"), -1},
		"closing":        {line(own, peer, "05", "0", "0"), -1},
		"no inode":       {line(own, peer, "01", "0", "0"), -1},
		"closing, found": {line(own, peer, "06", "0", "0") + line(own, peer, "01", "33", "7"), 33},
		"no number":      {line(own, peer, "01", "x", "7"), -1},
		"short":          {"   2: " + own + " " + peer + " 01\n", -1},
		"nothing":        {"", -1},
	} {
		uid, err := access.FindInTable(strings.NewReader(test.table), from, to)
		if test.want < 0 {
			uid = -1
			if engine.KindOf(err) != engine.KindUnauthenticated {
				t.Errorf("%s: %v", name, err)
			}
		}
		if uid != test.want {
			t.Errorf("%s: user %d, %v", name, uid, err)
		}
	}
}

func FuzzTableOfSockets(f *testing.F) {
	f.Add("   2: 0100007F:A0DA 0100007F:B1D5 01 00000000:00000000 00:00000000 00000000 0 0 7 2 0 20 0 0 10 -1\n")
	f.Fuzz(func(t *testing.T, table string) {
		a := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 0xa0da}
		b := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 0xb1d5}
		if uid, err := access.FindInTable(strings.NewReader(table), a, b); err == nil && uid < 0 {
			t.Errorf("user %d", uid)
		}
	})
}

// movedConn says that it comes from elsewhere than it does.
type movedConn struct {
	net.Conn
	from net.Addr
}

func (c movedConn) RemoteAddr() net.Addr { return c.from }

func TestCheckOwnUser(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := access.CheckOwnUser(conn); err != nil {
		t.Errorf("this user's connection: %v", err)
	}
	for _, from := range []net.Addr{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}} {
		if err := access.CheckOwnUser(movedConn{conn, from}); engine.KindOf(err) != engine.KindUnauthenticated {
			t.Errorf("a connection from %s: %v", from, err)
		}
	}
}
