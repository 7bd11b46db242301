// Package local is the object store's unix socket, by which processes on the same machine put objects and read them without a copy.
// Its protocol is proto/engine/v1/store_socket.proto.
//
// Reading. A get answers with a place: a range of an arena, whose descriptor comes along the first time, opened for reading only. The
// client maps the arena once and builds tables over the mapping; the server pins the object until the table is released, or until
// the client's process has closed the connection. Objects of up to engine.MaxInlineObjectBytes travel inside of the messages.
//
// Writing. A trusted executor (Server.ServeExecutor) gets arenas that it maps for writing, and writes its objects in place. What a
// client puts is copied by the server out of the client's memory (process_vm_readv), or where the system does not permit that out of
// a memfd that the client filled; then it is validated, so that no reader ever sees bytes that are not a table.
//
// Both ends work on Linux alone, for want of memfd elsewhere: Listen and Dial say so on other systems.
package local

import (
	"runtime"
	"time"

	"github.com/f708428e/engine"
)

const (
	// protocolVersion is what both ends must speak.
	protocolVersion = 1
	// maxMessageBytes bounds a message of either side: a small object, and what else there may be.
	maxMessageBytes = 1<<20 + engine.MaxInlineObjectBytes
	// maxConnections bounds the clients of a server.
	maxConnections = 1024
	// maxRunning and maxRunningTotal bound the requests of a connection and of a server that are not answered at once: those that
	// wait, fetch, restore, or copy much.
	maxRunning, maxRunningTotal = 4096, 16384
	// helloTimeout is how long a new connection may take to say who it is.
	helloTimeout = 10 * time.Second
	// defaultTimeout is how long a request may take that does not say it.
	defaultTimeout = 30 * time.Second
)

// Peer is a process at the other end of a connection.
type Peer struct {
	// UID, GID, and PID are what the kernel says of the process that connected. PID is 0 if it is in a PID namespace that this process
	// cannot see.
	UID, GID uint32
	PID      int32
	// Client, Session, and Domain are what it says of itself; Domain is never empty.
	Client, Session, Domain string
	// AnyDomain says that it has named no domain: what it may read is a matter of its user alone.
	AnyDomain bool
}

// Options is what a client says of itself.
type Options struct {
	// Client is who it is, for people.
	Client string
	// Session owns what is put. Empty for a client that only reads; its puts are refused.
	Session string
	// Domain is the security domain that objects are put into, and the only one that they are read from. Empty means that they are put into
	// objectstore.DefaultDomain, and that the server decides which may be read.
	Domain string
	// Timeout bounds calls whose context has no deadline. Zero means 30 s.
	Timeout time.Duration
}

// GetOptions steers Client.Get. The zero value reads what the store has now, be it in memory or spilled.
type GetOptions struct {
	// Wait waits for an object that does not exist yet, until the deadline.
	Wait bool
	// Fetch brings an object that this store does not have from elsewhere.
	Fetch bool
}

// errUnsupported is what callers on other systems get.
func errUnsupported(op string) error {
	return engine.Errorf(engine.KindUnavailable, op+" on store socket", "", "not supported on %s, which has no memory that can be sealed", runtime.GOOS).
		WithHint("put and get through the worker's Flight service")
}
