// Package fdstream carries messages and file descriptors over a unix socket, between processes of one host.
package fdstream

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
)

const (
	// bufferBytes is the size of a stream's buffers when it is idle.
	bufferBytes = 64 << 10
	// maxQueuedBytes is how much may wait to be written before whoever wants to add waits too.
	maxQueuedBytes = 1 << 20
	// maxFiles bounds the descriptors in one sendmsg. Twice as many may have been received that no message has claimed yet: those of the
	// next sendmsg come in one piece with the last bytes of the one before.
	maxFiles = 16
	// headerBytes is the length before each message.
	headerBytes = 4
)

// WriteTimeout is how long the other end may take to read what it was sent, before it is given up.
const WriteTimeout = 30 * time.Second

// Stream carries messages and file descriptors over a unix socket. One goroutine reads; any number write.
//
// Writing combines: a message is appended under the lock, and whoever flushes first writes for all, so that a burst of messages takes
// few system calls. Descriptors go with the bytes of their message or before, in order, and the receiver claims them in order.
type Stream struct {
	// Conn is the connection, for its deadlines and its end. Who reads or writes it past the stream breaks the stream.
	Conn *net.UnixConn

	maxMessageBytes int // constant

	// Of the reading goroutine.
	in         []byte
	start, end int
	oob        []byte
	files      []int

	mu      sync.Mutex
	drained sync.Cond
	out     []byte
	spare   []byte
	// outFiles are descriptors that the stream owns until they are sent, with the place of their message in out.
	outFiles []outFile
	writing  bool
	// patient is when whoever writes last set the deadline of writing.
	patient time.Time
	err     error
}

type outFile struct {
	at   int
	file *os.File
}

// New makes a stream of a connection, which stays the caller's to close. A received message that is longer than maxMessageBytes is an
// error.
func New(conn *net.UnixConn, maxMessageBytes int) *Stream {
	s := &Stream{Conn: conn, maxMessageBytes: maxMessageBytes, in: make([]byte, bufferBytes), oob: make([]byte, syscall.CmsgSpace(4*maxFiles))}
	s.drained.L = &s.mu
	return s
}

// Next returns the next message if it has been read completely. It is valid until Fill.
func (s *Stream) Next() (message []byte, ok bool, err error) {
	if s.end-s.start < headerBytes {
		return nil, false, nil
	}
	length := binary.LittleEndian.Uint32(s.in[s.start:])
	if int64(length) > int64(s.maxMessageBytes) {
		return nil, false, engine.Errorf(engine.KindInvalidArgument, "read message", "", "length %d is above the limit of %d bytes", length, s.maxMessageBytes)
	}
	size := headerBytes + int(length)
	if s.end-s.start < size {
		return nil, false, nil
	}
	message = s.in[s.start+headerBytes : s.start+size : s.start+size]
	s.start += size
	return message, true, nil
}

// Fill reads more, and waits for it. At the end of the stream it returns io.EOF, also if that cuts a message.
func (s *Stream) Fill() error {
	switch {
	case s.start == s.end:
		s.start, s.end = 0, 0
		if len(s.in) > bufferBytes {
			s.in = make([]byte, bufferBytes)
		}
	case s.start > 0:
		s.end = copy(s.in, s.in[s.start:s.end])
		s.start = 0
	}
	if s.end >= headerBytes {
		// Next has looked at the length before.
		if want := headerBytes + int(binary.LittleEndian.Uint32(s.in)); want > len(s.in) {
			grown := make([]byte, want)
			copy(grown, s.in[:s.end])
			s.in = grown
		}
	}
	n, oobn, flags, _, err := s.Conn.ReadMsgUnix(s.in[s.end:], s.oob)
	if oobn > 0 {
		if err := s.receiveFiles(s.oob[:oobn]); err != nil {
			return err
		}
	}
	if flags&syscall.MSG_CTRUNC != 0 {
		return engine.Errorf(engine.KindInvalidArgument, "read message", "", "more than %d descriptors at once, or no room for more in this process", maxFiles)
	}
	s.end += n
	if err == nil && n == 0 {
		return io.EOF
	}
	return err
}

func (s *Stream) receiveFiles(oob []byte) error {
	messages, err := syscall.ParseSocketControlMessage(oob)
	for i := range messages {
		fds, rightsErr := syscall.ParseUnixRights(&messages[i])
		err = errors.Join(err, rightsErr)
		s.files = append(s.files, fds...)
	}
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "read message", "", "descriptors: %w", err)
	}
	if len(s.files) > 2*maxFiles {
		return engine.Errorf(engine.KindInvalidArgument, "read message", "", "%d descriptors that no message announced", len(s.files))
	}
	return nil
}

// Receive reads one message, and waits for it.
func (s *Stream) Receive() ([]byte, error) {
	for {
		if message, ok, err := s.Next(); ok || err != nil {
			return message, err
		}
		if err := s.Fill(); err != nil {
			return nil, err
		}
	}
}

// Send writes one message.
func (s *Stream) Send(message proto.Message) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	if buffer, ok := s.Begin(false); ok {
		s.Commit(append(buffer, data...), nil)
		s.Flush()
	}
	return s.Failed()
}

// File claims the next descriptor that came along, or returns nil if there is none. The caller closes it.
func (s *Stream) File(name string) *os.File {
	if len(s.files) == 0 {
		return nil
	}
	fd := s.files[0]
	s.files = append(s.files[:0], s.files[1:]...)
	return os.NewFile(uintptr(fd), name) //nolint:gosec // A descriptor is not negative.
}

// Unlock gives up the message that Begin began.
func (s *Stream) Unlock() { s.mu.Unlock() }

// Begin locks the stream for one message, which the caller appends to the returned buffer and ends with Commit. It waits while too
// much is queued if patient. ok is false, and the stream not locked, if it is broken.
func (s *Stream) Begin(patient bool) (buffer []byte, ok bool) {
	s.mu.Lock()
	for patient && s.err == nil && len(s.out) >= maxQueuedBytes {
		if s.writing {
			s.drained.Wait()
		} else {
			s.flushLocked()
		}
	}
	if s.err != nil {
		s.mu.Unlock()
		return nil, false
	}
	return append(s.out, 0, 0, 0, 0), true
}

// Commit ends the message that Begin began, and unlocks. A file that is not nil goes along, and belongs to the stream from now on.
func (s *Stream) Commit(buffer []byte, file *os.File) {
	at := len(s.out)
	binary.LittleEndian.PutUint32(buffer[at:], uint32(len(buffer)-at-headerBytes)) //nolint:gosec // Messages are bounded.
	if file != nil {
		s.outFiles = append(s.outFiles, outFile{at: at, file: file})
	}
	s.out = buffer
	s.mu.Unlock()
}

// Flush writes what is queued, unless another goroutine does so already, which then writes this too.
func (s *Stream) Flush() {
	s.mu.Lock()
	if !s.writing && s.err == nil {
		s.flushLocked()
	}
	s.mu.Unlock()
}

// flushLocked is called with the lock, and gives it up while it writes.
func (s *Stream) flushLocked() {
	s.writing = true
	for len(s.out) > 0 && s.err == nil {
		data, files := s.out, s.outFiles
		s.out, s.outFiles = s.spare[:0], nil
		s.spare = nil
		s.mu.Unlock()
		err := s.write(data, files)
		s.mu.Lock()
		if s.spare == nil && cap(data) <= 2*maxQueuedBytes {
			s.spare = data
		}
		s.failLocked(err)
		s.drained.Broadcast()
	}
	s.writing = false
}

// write sends data with files, which it closes.
func (s *Stream) write(data []byte, files []outFile) error {
	defer func() { closeFiles(files) }()
	// Setting it costs as much as a short write, and nobody needs it to the second.
	if now := time.Now(); now.Sub(s.patient) > WriteTimeout/8 {
		if err := s.Conn.SetWriteDeadline(now.Add(WriteTimeout)); err != nil {
			return err
		}
		s.patient = now
	}
	sent := 0
	for len(files) > 0 {
		some, until := files, len(data)
		if len(some) > maxFiles {
			some, until = files[:maxFiles], files[maxFiles].at
		}
		fds := make([]int, len(some))
		for i, file := range some {
			fds[i] = int(file.file.Fd()) //nolint:gosec // A descriptor fits.
		}
		n, _, err := s.Conn.WriteMsgUnix(data[sent:until], syscall.UnixRights(fds...), nil)
		sent += n
		if err != nil {
			return err
		}
		closeFiles(some)
		files = files[len(some):]
		if sent < until {
			if _, err := s.Conn.Write(data[sent:until]); err != nil {
				return err
			}
			sent = until
		}
	}
	if sent == len(data) {
		return nil
	}
	_, err := s.Conn.Write(data[sent:])
	return err
}

// Fail ends writing: what is queued is dropped, and Begin returns false from now on. The first error counts.
func (s *Stream) Fail(err error) {
	s.mu.Lock()
	s.failLocked(err)
	s.drained.Broadcast()
	s.mu.Unlock()
}

func (s *Stream) failLocked(err error) {
	if err == nil {
		return
	}
	if s.err == nil {
		s.err = err
		// The reading goroutine may wait for a peer that has nothing to say.
		_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	closeFiles(s.outFiles)
	s.out, s.outFiles = nil, nil
}

// Failed is why writing has ended, or nil.
func (s *Stream) Failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// CloseReceived closes the descriptors that nobody claimed. Of the reading goroutine.
func (s *Stream) CloseReceived() {
	for _, fd := range s.files {
		_ = syscall.Close(fd)
	}
	s.files = nil
}

func closeFiles(files []outFile) {
	for _, file := range files {
		_ = file.file.Close()
	}
}
