package transfer

import (
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/f708428e/engine"
)

// Chunk mirrors the metadata of a chunk for tests that play a holder.
type Chunk struct {
	Offset, Total, Rows, Batches int64
	CRC                          uint32
	Domain                       string
}

// Encode returns the wire form.
func (c Chunk) Encode() []byte {
	return chunk{offset: c.Offset, description: description{total: c.Total, rows: c.Rows, batches: c.Batches, crc: c.CRC, domain: c.Domain}}.encode()
}

// ParseChunk is the inverse of Encode.
func ParseChunk(b []byte) (Chunk, error) {
	c, err := parseChunk(b)
	return Chunk{c.offset, c.total, c.rows, c.batches, c.crc, c.domain}, err
}

// Ticket mirrors a ticket.
type Ticket struct {
	ID         engine.ObjectID
	Cluster    string
	Raw, Fetch bool
	Offset     int64
	Chunk      int
}

// Encode returns the wire form of a raw ticket.
func (t Ticket) Encode() []byte {
	return ticket{id: t.ID, raw: true, offset: t.Offset, chunk: t.Chunk, fetch: t.Fetch}.encode()
}

// ParseTicket reads a ticket.
func ParseTicket(b []byte) (Ticket, error) {
	t, err := parseTicket(b)
	return Ticket{ID: t.id, Cluster: t.cluster, Raw: t.raw, Fetch: t.fetch, Offset: t.offset, Chunk: t.chunk}, err
}

// Put mirrors the command of a raw put.
type Put struct {
	ID                   engine.ObjectID
	Total, Rows, Batches int64
	CRC                  uint32
	Domain               string
}

// Encode returns the wire form.
func (p Put) Encode() []byte {
	return rawPut{id: p.ID, description: description{total: p.Total, rows: p.Rows, batches: p.Batches, crc: p.CRC, domain: p.Domain}}.encode()
}

// ParsePut is the inverse of Encode; false means that b is another command.
func ParsePut(b []byte) (Put, bool, error) {
	p, ok, err := parseRawPut(b)
	return Put{p.id, p.total, p.rows, p.batches, p.crc, p.domain}, ok, err
}

// Data mirrors a FlightData message.
type Data struct{ Descriptor, Header, Metadata, Body []byte }

// Marshal encodes a message as the service does, without a pin.
func (d Data) Marshal() (mem.BufferSlice, error) {
	return NewCodec().Marshal(&outgoing{descriptor: d.Descriptor, header: d.Header, metadata: d.Metadata, body: d.Body})
}

// Unmarshal decodes a message as the service does.
func (d *Data) Unmarshal(data mem.BufferSlice) error {
	var m incoming
	defer m.free()
	if err := NewCodec().Unmarshal(data, &m); err != nil {
		return err
	}
	*d = Data{Descriptor: m.descriptor, Header: m.header, Metadata: m.metadata, Body: make([]byte, m.bodyBytes)}
	return m.read(d.Body)
}

// NewCodec returns the codec.
func NewCodec() encoding.CodecV2 { return newCodec() }

// ChunkBytes is the size of a chunk.
const ChunkBytes = chunkBytes

// Waiters returns how many callers wait for an object.
func (p *Puller) Waiters(id engine.ObjectID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.pulls[id]; one != nil {
		return one.waiters
	}
	return 0
}

// BulkFrom is the size from which on an object is carried by a connection of its own.
const BulkFrom = bulkFrom

// ReadAnswer reads the beginning of what a bulk connection carries.
func ReadAnswer(r io.Reader) (Chunk, error) {
	c, err := readAnswer(r)
	return Chunk{c.offset, c.total, c.rows, c.batches, c.crc, c.domain}, err
}
