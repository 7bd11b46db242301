package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// supported says that this system has what both ends need.
const supported = true

// maxPathBytes is the longest path that the address of a unix socket can hold.
const maxPathBytes = 107

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (Peer, error) {
	var credentials *unix.Ucred
	err := control(conn, func(fd int) (err error) {
		credentials, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: credentials.Uid, GID: credentials.Gid, PID: credentials.Pid}, nil
}

// control calls f with a connection's descriptor.
func control(conn *net.UnixConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) }) //nolint:gosec // A descriptor fits.
	return errors.Join(err, inner)
}

// hungUp reports whether the other end of a connection is closed.
func hungUp(conn *net.UnixConn) bool {
	gone := false
	err := control(conn, func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // A descriptor fits.
		_, err := unix.Poll(fds, 0)
		gone = fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		return err
	})
	return gone || err != nil && !errors.Is(err, unix.EINTR)
}

// lockFile takes the lock of a server's path, and keeps it until the file is closed or the process ends.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, engine.Errorf(fileKind(err), "listen on store socket", path, "open its lock: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = engine.Errorf(engine.KindConflict, "listen on store socket", path, "another store is served there").
			WithHint("stop it, or give this one another folder")
	} else if err != nil {
		err = engine.Errorf(engine.KindUnavailable, "listen on store socket", path, "lock: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// withShortPath calls f with a path of the same socket that fits into an address.
func withShortPath(path string, f func(short string) error) error {
	if len(path) <= maxPathBytes {
		return f(path)
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return f("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)) //nolint:gosec // A descriptor fits.
}

// readProcess copies a batch out of another process's memory to its places in dst.
func readProcess(pid int32, dst []byte, batch batch) error {
	local := make([]unix.Iovec, len(batch))
	remote := make([]unix.RemoteIovec, len(batch))
	want := 0
	for i, s := range batch {
		local[i].Base = &dst[s.at]
		local[i].SetLen(s.length)
		remote[i] = unix.RemoteIovec{Base: uintptr(s.from), Len: s.length}
		want += s.length
	}
	n, err := unix.ProcessVMReadv(int(pid), local, remote, 0)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		return engine.Errorf(engine.KindPermission, opReadMemory, "", "process %d: process_vm_readv: %w", pid, err)
	case err != nil:
		return engine.Errorf(engine.KindInvalidArgument, opPut, "", "read %d bytes of process %d: %w", want, pid, err)
	case n != want:
		return engine.Errorf(engine.KindInvalidArgument, opPut, "", "read %d of %d bytes of process %d", n, want, pid)
	}
	return nil
}

// readFile copies a batch out of a memfd to its places in dst.
func readFile(file *os.File, dst []byte, batch batch) error {
	for _, s := range batch {
		if s.from > 1<<62 {
			return engine.Errorf(engine.KindInvalidArgument, opPut, "", "offset %d in the client's memory", s.from)
		}
		if _, err := file.ReadAt(dst[s.at:s.at+s.length], int64(s.from)); err != nil { //nolint:gosec // Looked at above.
			return engine.Errorf(engine.KindInvalidArgument, opPut, "", "read %d bytes at %d of the client's memory: %w", s.length, s.from, err)
		}
	}
	return nil
}

// checkMemfd makes sure that reading a descriptor cannot block: other files have no seals.
func checkMemfd(file *os.File) error {
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return engine.Errorf(engine.KindInvalidArgument, opPut, "", "the descriptor is no memory that is sealed against shrinking")
	}
	return nil
}

// makeMemfd makes memory of a size, has it filled, and seals it.
func makeMemfd(size int64, fill func(memory []byte)) (*os.File, error) {
	fd, err := unix.MemfdCreate("engine-put", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, engine.Errorf(engine.KindExhausted, opPut, "", "make shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "engine-put") //nolint:gosec // A descriptor is not negative.
	err = func() error {
		// Making the pages here turns a lack of memory into an error.
		if err := unix.Fallocate(fd, 0, 0, size); err != nil {
			return err
		}
		memory, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		fill(memory)
		if err := unix.Munmap(memory); err != nil {
			return err
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW) //nolint:gosec // See above.
		return err
	}()
	if err != nil {
		return nil, errors.Join(engine.Errorf(engine.KindExhausted, opPut, "", "%d bytes of shared memory: %w", size, err), file.Close())
	}
	return file, nil
}

// allowReading lets the process at the other end of a connection read this one's memory, where the system asks for that.
func allowReading(conn *net.UnixConn) {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil || strings.TrimSpace(string(scope)) != "1" {
		return
	}
	peer, err := peerOf(conn)
	if err != nil || peer.PID <= 0 {
		return
	}
	// If it is refused, puts go by way of a memfd.
	_ = unix.Prctl(unix.PR_SET_PTRACER, uintptr(peer.PID), 0, 0, 0)
}

// addressOf is where another process finds memory of the heap, which does not move.
func addressOf(data []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data))))
}

// duplicate makes a descriptor of the same file that is the caller's.
func duplicate(file *os.File) (*os.File, error) {
	defer runtime.KeepAlive(file)
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, engine.Errorf(engine.KindExhausted, "duplicate descriptor", file.Name(), "%w", err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil //nolint:gosec // A descriptor is not negative.
}
