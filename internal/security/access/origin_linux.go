package access

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

const opUser = "find user of connection"

// userOf asks the kernel whose socket is at the other end of a connection over loopback. The socket must be connected still: one that was
// closed is nobody's, and the kernel says that it is root's.
func userOf(remote, local net.Addr) (int, error) {
	from, okFrom := remote.(*net.TCPAddr)
	to, okTo := local.(*net.TCPAddr)
	if !okFrom || !okTo || !from.IP.IsLoopback() || !to.IP.IsLoopback() {
		return 0, engine.Errorf(engine.KindUnauthenticated, opUser, "", "the connection does not come over loopback")
	}
	uid, err := askKernel(from, to)
	if err != nil && engine.KindOf(err) != engine.KindUnauthenticated {
		uid, err = readTable(from, to) // A kernel without sock_diag, or a sandbox that forbids it.
	}
	return uid, err
}

// established is TCP_ESTABLISHED.
const established = 1

// The layout of inet_diag_req_v2 and inet_diag_msg, see sock_diag(7).
type (
	diagSocket struct {
		Ports    [4]byte // The source's and the destination's, in network order.
		Src, Dst [16]byte
		If       uint32
		Cookie   [2]uint32
	}
	diagRequest struct {
		Header                         unix.NlMsghdr
		Family, Protocol, Extra, Unset uint8
		States                         uint32
		Socket                         diagSocket
	}
	diagAnswer struct {
		Family, State, Timer, Retrans       uint8
		Socket                              diagSocket
		Expires, RQueue, WQueue, UID, Inode uint32
	}
)

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY.
const sockDiagByFamily = 20

// askKernel asks for the one socket whose own end is from and whose peer is to.
func askKernel(from, to *net.TCPAddr) (int, error) {
	fail := func(err error) (int, error) {
		return 0, engine.Errorf(engine.KindUnavailable, opUser, from.String(), "sock_diag: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fail(err)
	}
	request := diagRequest{
		Family: unix.AF_INET6, Protocol: unix.IPPROTO_TCP, States: ^uint32(0),
		Socket: diagSocket{Cookie: [2]uint32{^uint32(0), ^uint32(0)}},
	}
	request.Header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(request)), Type: sockDiagByFamily, Flags: unix.NLM_F_REQUEST, Seq: 1}
	binary.BigEndian.PutUint16(request.Socket.Ports[:], uint16(from.Port)) //nolint:gosec // A port.
	binary.BigEndian.PutUint16(request.Socket.Ports[2:], uint16(to.Port))  //nolint:gosec // A port.
	if v4 := from.IP.To4(); v4 != nil {
		request.Family = unix.AF_INET
		copy(request.Socket.Src[:], v4)
		copy(request.Socket.Dst[:], to.IP.To4())
	} else {
		copy(request.Socket.Src[:], from.IP.To16())
		copy(request.Socket.Dst[:], to.IP.To16())
	}
	wire := unsafe.Slice((*byte)(unsafe.Pointer(&request)), unsafe.Sizeof(request))
	if err := unix.Sendto(fd, wire, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fail(err)
	}
	var buffer [512]byte
	n, _, err := unix.Recvfrom(fd, buffer[:], 0)
	if err != nil {
		return fail(err)
	}
	if n < unix.SizeofNlMsghdr {
		return fail(io.ErrUnexpectedEOF)
	}
	header := (*unix.NlMsghdr)(unsafe.Pointer(&buffer[0]))
	body := buffer[unix.SizeofNlMsghdr:n]
	switch {
	case header.Type == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body))) //nolint:gosec // It is negative.
		if errors.Is(errno, unix.ENOENT) {
			return 0, errGone(from)
		}
		return fail(errno)
	case header.Type != sockDiagByFamily || len(body) < int(unsafe.Sizeof(diagAnswer{})):
		return fail(errors.New("an answer of another kind"))
	}
	answer := (*diagAnswer)(unsafe.Pointer(&body[0]))
	if answer.State != established || answer.Inode == 0 || answer.Socket.Ports != request.Socket.Ports {
		return 0, errGone(from)
	}
	return int(answer.UID), nil
}

func errGone(from net.Addr) error {
	return engine.Errorf(engine.KindUnauthenticated, opUser, from.String(), "the connection was closed at its other end, or is not of this network namespace")
}

// readTable finds the socket in /proc/net/tcp.
func readTable(from, to *net.TCPAddr) (int, error) {
	path := "/proc/net/tcp"
	if from.IP.To4() == nil {
		path = "/proc/net/tcp6"
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, engine.Errorf(engine.KindUnavailable, opUser, from.String(), "%w", err)
	}
	defer func() { _ = file.Close() }()
	return findInTable(file, from, to)
}

// findInTable reads a table of sockets, of which each line has: number, own end, peer, state, queues, timer, retransmissions, user,
// timeout, inode.
func findInTable(table io.Reader, from, to *net.TCPAddr) (int, error) {
	own, peer := tableAddress(from), tableAddress(to)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[1] != own || fields[2] != peer || fields[3] != "01" || fields[9] == "0" {
			continue
		}
		if uid, err := strconv.ParseUint(fields[7], 10, 32); err == nil {
			return int(uid), nil //nolint:gosec // It has 32 bits.
		}
	}
	if err := lines.Err(); err != nil {
		return 0, engine.Errorf(engine.KindUnavailable, opUser, from.String(), "%w", err)
	}
	return 0, errGone(from)
}

// tableAddress is an address as /proc/net/tcp has it: each four bytes of the IP as a number of this machine's byte order, and the port.
func tableAddress(a *net.TCPAddr) string {
	ip := []byte(a.IP.To4())
	if ip == nil {
		ip = a.IP.To16()
	}
	turned := make([]byte, 0, len(ip))
	for i := 0; i < len(ip); i += 4 {
		turned = binary.BigEndian.AppendUint32(turned, binary.NativeEndian.Uint32(ip[i:]))
	}
	port := binary.BigEndian.AppendUint16(nil, uint16(a.Port)) //nolint:gosec // A port.
	return strings.ToUpper(hex.EncodeToString(turned)) + ":" + strings.ToUpper(hex.EncodeToString(port))
}

// kernelTells says that this system tells whose a connection over loopback is.
const kernelTells = true
