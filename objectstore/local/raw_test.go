//go:build linux

package local_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// raw is a client made of the generated code alone: it holds the hand-made encoding against the protocol's definition, and can
// misbehave.
type raw struct {
	conn   *net.UnixConn
	number uint64
	files  []*os.File
}

func dialRaw(path string) (*raw, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &raw{conn: conn}, nil
}

// rawClient connects and says hello.
func (f *fixture) rawClient(t testing.TB, session string) *raw {
	t.Helper()
	r, err := dialRaw(f.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if err := r.hello(session); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *raw) close() {
	_ = r.conn.Close()
	for _, file := range r.files {
		_ = file.Close()
	}
}

func (r *raw) send(message proto.Message, files ...*os.File) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	frame := framed(data)
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, file := range files {
			fds = append(fds, int(file.Fd()))
		}
		rights = syscall.UnixRights(fds...)
	}
	n, _, err := r.conn.WriteMsgUnix(frame, rights, nil)
	if err == nil && n < len(frame) {
		_, err = r.conn.Write(frame[n:])
	}
	return err
}

// read fills data, and keeps descriptors that come along.
func (r *raw) read(data []byte) error {
	oob := make([]byte, 256)
	for len(data) > 0 {
		n, oobn, _, _, err := r.conn.ReadMsgUnix(data, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		data = data[n:]
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return err
		}
		for i := range messages {
			fds, err := syscall.ParseUnixRights(&messages[i])
			if err != nil {
				return err
			}
			for _, fd := range fds {
				r.files = append(r.files, os.NewFile(uintptr(fd), "received"))
			}
		}
	}
	return nil
}

func (r *raw) receive(message proto.Message) error {
	var length [4]byte
	if err := r.read(length[:]); err != nil {
		return err
	}
	data := make([]byte, binary.LittleEndian.Uint32(length[:]))
	if err := r.read(data); err != nil {
		return err
	}
	return proto.Unmarshal(data, message)
}

func (r *raw) hello(session string) error {
	welcome, err := r.greet(&enginev1.StoreHello{ProtocolVersion: 1, Client: "raw", SessionId: session})
	if err == nil && welcome.GetError() != nil {
		err = rpc.FromProto(welcome.GetError())
	}
	return err
}

func (r *raw) greet(hello *enginev1.StoreHello) (*enginev1.StoreWelcome, error) {
	if err := r.send(hello); err != nil {
		return nil, err
	}
	var welcome enginev1.StoreWelcome
	return &welcome, r.receive(&welcome)
}

// call sends a request and returns the next response, which must be its own.
func (r *raw) call(request *enginev1.StoreRequest, files ...*os.File) (*enginev1.StoreResponse, error) {
	r.number++
	request.Number = r.number
	if request.GetTimeout() == nil {
		request.Timeout = durationpb.New(30e9)
	}
	if err := r.send(request, files...); err != nil {
		return nil, err
	}
	var response enginev1.StoreResponse
	if err := r.receive(&response); err != nil {
		return nil, err
	}
	if response.GetNumber() != request.GetNumber() {
		return nil, errors.New("the response is of another request")
	}
	if response.GetError() != nil {
		return nil, rpc.FromProto(response.GetError())
	}
	return &response, nil
}

func (r *raw) mustCall(t testing.TB, request *enginev1.StoreRequest, files ...*os.File) *enginev1.StoreResponse {
	t.Helper()
	response, err := r.call(request, files...)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func getRequest(id engine.ObjectID) *enginev1.StoreRequest {
	return &enginev1.StoreRequest{Call: &enginev1.StoreRequest_Get{Get: &enginev1.StoreGet{ObjectId: id[:]}}}
}

func inlineRequest(id engine.ObjectID, data []byte) *enginev1.StoreRequest {
	return &enginev1.StoreRequest{Call: &enginev1.StoreRequest_PutInline{PutInline: &enginev1.StorePutInline{ObjectId: id[:], Data: data}}}
}

func createRequest(id engine.ObjectID, size int64) *enginev1.StoreRequest {
	return &enginev1.StoreRequest{Call: &enginev1.StoreRequest_Create{Create: &enginev1.StoreCreate{ObjectId: id[:], SizeBytes: size}}}
}

func fromRequest(id engine.ObjectID, addresses, lengths []uint64, descriptor bool) *enginev1.StoreRequest {
	return &enginev1.StoreRequest{Call: &enginev1.StoreRequest_PutFrom{PutFrom: &enginev1.StorePutFrom{
		ObjectId: id[:], Addresses: addresses, Lengths: lengths, Descriptor_: descriptor,
	}}}
}

func framed(data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...)
}
