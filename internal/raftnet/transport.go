package raftnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

const (
	opConnect = "connect to head"
	// maxIdle is how many idle connections to one head are kept.
	maxIdle = 3
	// callTimeout bounds connecting, and each message with its answer, which the other head may have to write to its disk before.
	callTimeout = 5 * time.Second
)

// Transport carries raft's messages to other heads. It is raft's own, with the id of the head that is meant in each connection.
type Transport struct{ *raft.NetworkTransport }

// NewTransport makes the transport of a head that others reach at address, "host:port". check is asked about an address before anything
// is sent there. identity is the head's, for connections of TLS; nil means clear text. Close of the transport leaves the Mux open.
func NewTransport(mux *Mux, address string, check func(ctx context.Context, address string) error, identity *pki.Identity) *Transport {
	logger := hclog.New(&hclog.LoggerOptions{Name: "raft-net", Level: hclog.Info, DisableTime: true, Output: &logWriter{mux.logger}})
	return &Transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &layer{Listener: mux.raft, address: address, check: check, identity: identity}, Logger: logger, MaxPool: maxIdle, Timeout: callTimeout,
	})}
}

// layer makes and takes connections between heads.
type layer struct {
	net.Listener
	address string
	check   func(ctx context.Context, address string) error
	// identity is nil for connections in clear text.
	identity *pki.Identity
}

// Addr returns where others reach this head, which need not be what it listens on.
func (l *layer) Addr() net.Addr { return address(l.address) }

// Dial implements raft.StreamLayer. The address has the id of the head that is meant in front of it.
func (l *layer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, address, found := strings.Cut(string(target), "@")
	if !found {
		return nil, engine.Errorf(engine.KindInternal, opConnect, string(target), "the id of the head is not known")
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := l.check(ctx, address); err != nil {
		return nil, err
	}
	conn, err := l.connect(ctx, address)
	if err != nil {
		return nil, engine.Errorf(engine.KindUnavailable, opConnect, address, "%w", err)
	}
	if err := errors.Join(conn.SetWriteDeadline(time.Now().Add(timeout)), writeGreeting(conn, id), conn.SetWriteDeadline(time.Time{})); err != nil {
		return nil, errors.Join(engine.Errorf(engine.KindUnavailable, opConnect, address, "%w", err), conn.Close())
	}
	return conn, nil
}

func (l *layer) connect(ctx context.Context, address string) (net.Conn, error) {
	if l.identity != nil {
		return l.identity.Dial(ctx, address, pki.ProtocolRaft, pki.RoleHead)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// address is a "host:port" as net.Addr.
type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// meant puts the id of the head that is meant in front of its address.
func meant(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + string(target))
}

// AppendEntriesPipeline implements raft.Transport.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, meant(id, target))
}

// AppendEntries implements raft.Transport.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, meant(id, target), args, resp)
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, meant(id, target), args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, meant(id, target), args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, meant(id, target), args, resp, data)
}

// TimeoutNow implements raft.Transport.
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, meant(id, target), args, resp)
}

// logWriter makes log lines of what raft's transport writes: connections that break, which raft makes again.
type logWriter struct{ logger *slog.Logger }

// Write takes one line.
func (w *logWriter) Write(line []byte) (int, error) {
	w.logger.Debug("a connection between heads", "event", string(bytes.TrimSpace(line)))
	return len(line), nil
}
