// Package transfer moves objects between machines over Arrow Flight. Service is a node's Flight service, which any Flight client can
// use; Puller brings copies of objects from other nodes into the node's store; Client is for programs on other machines.
//
// A foreign client gets and puts the record batches of an object as Flight knows them. Our own nodes and clients ask for the bytes of an
// object's IPC stream instead, in chunks that carry where they belong and the checksum of the whole, so that a transfer writes into
// its destination and can continue from another holder.
//
// Bytes are not copied on their way to gRPC: it reads them from the arena, which stays pinned until it is done. On the way in they are
// copied once, from gRPC's buffers into the object's memory.
package transfer

import (
	"context"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/f708428e/engine"
)

const (
	// windowBytes is how much of a stream may be under way before its receiver has read it. It covers 10 Gbit/s between machines with
	// 0.8 ms between them; on loopback twice as much is slower, because it does not stay in the processor's cache.
	windowBytes = 1 << 20
	// bufferBytes is what one call to the system reads or writes. It is held by each connection that is open.
	bufferBytes = 256 << 10
	// patience is how long a transfer waits for its peer's next message, for room, or for another answer.
	patience = 30 * time.Second
)

// Holder is a node with a copy of an object.
type Holder struct {
	// Node has the copy, and Address is the "host:port" of its Flight service.
	Node    engine.NodeID
	Address string
	// SizeBytes is the object's length, as far as is known. Zero means that it is not, which costs a pull another call.
	SizeBytes int64
	// CRC32C is the object's checksum if Checked, as far as is known.
	CRC32C  uint32
	Checked bool
	// Domain is the object's security domain, as far as is known. Empty means that it is not, which costs a pull another call if it is not
	// objectstore.DefaultDomain.
	Domain string
}

// Locate finds the holders of an object. An object that exists nowhere is an engine.KindNotFound error, or no holder.
type Locate func(ctx context.Context, id engine.ObjectID) ([]Holder, error)

// minReceiveBytes is the largest message that every server takes, however small its store.
const minReceiveBytes = 64 << 20

// ServerOptions are what a gRPC server needs to serve a Service of a store with that capacity, after the options that it has anyway: a
// codec that does not copy, news of the end of connections, and the sizes of messages, windows, and buffers that suit large messages.
// gRPC has a message in memory before the service hears of it, so none may be larger than the capacity, but for 64 MiB. Without
// the options the service refuses to get and to put.
func ServerOptions(capacityBytes int64) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StatsHandler(connections{}),
		grpc.MaxRecvMsgSize(int(min(max(capacityBytes, minReceiveBytes), maxMessageBytes))),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(2 * windowBytes),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
	}
}

// DialOptions are the counterpart of ServerOptions for PullerConfig.Dial. Servers must allow a probe every 15 s, as that of internal/rpc
// does.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		// A host that is gone is noticed while a call waits for it, however long it may.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: patience / 2, Timeout: patience / 2}),
		grpc.WithInitialWindowSize(windowBytes),
		grpc.WithInitialConnWindowSize(2 * windowBytes),
		grpc.WithReadBufferSize(bufferBytes),
		grpc.WithWriteBufferSize(bufferBytes),
	}
}

// callOptions go with each call that sends or receives incoming and outgoing.
func callOptions() []grpc.CallOption {
	return []grpc.CallOption{
		grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes),
	}
}

// Register adds the Service to a server that was made with ServerOptions.
func Register(server *grpc.Server, service *Service) {
	flight.RegisterFlightServiceServer(server, service)
}
