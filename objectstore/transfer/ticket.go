package transfer

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

// What our own nodes and clients say to each other stands in three small messages, little endian. Each begins with three letters and the
// version of the protocol, which a text of an object id, being hexadecimal, cannot. All fields have fixed lengths, but for the domain at
// the end of a description.
const (
	ticketMagic = "EOT"
	chunkMagic  = "EOC"
	putMagic    = "EOP"
	version     = '2'
)

const (
	// chunkBytes is how much of an object one message carries.
	chunkBytes = 512 << 10
	// maxChunkBytes bounds what a peer can ask for.
	maxChunkBytes = 16 << 20
)

// ticket asks for an object.
type ticket struct {
	id engine.ObjectID
	// cluster is the cluster of a foreign client's reference. Empty means that of the server.
	cluster string
	// raw asks for the object's bytes from offset on, in chunks of chunk bytes. A chunk of zero asks for the description alone.
	raw    bool
	offset int64
	chunk  int
	// fetch lets the server bring the object from elsewhere.
	fetch bool
}

const ticketBytes = 4 + 16 + 8 + 4 + 4

const flagFetch = 1

// encode returns the wire form of a raw ticket.
func (t ticket) encode() []byte {
	b := make([]byte, 0, ticketBytes)
	b = append(append(b, ticketMagic...), version)
	b = append(b, t.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.offset)) //nolint:gosec // Never negative.
	b = binary.LittleEndian.AppendUint32(b, uint32(t.chunk))  //nolint:gosec // Bounded.
	var flags uint32
	if t.fetch {
		flags |= flagFetch
	}
	return binary.LittleEndian.AppendUint32(b, flags)
}

// parseTicket reads a raw ticket or the text of a reference.
func parseTicket(b []byte) (ticket, error) {
	const op = "parse ticket"
	fields, raw, err := parseFields(op, ticketMagic, ticketBytes, 0, b)
	if err != nil {
		return ticket{}, err
	}
	if !raw {
		ref, err := engine.ParseObjectRef(string(b))
		if err != nil {
			return ticket{}, engine.WrapError(op, "", err)
		}
		return ticket{id: ref.ID, cluster: ref.Cluster, fetch: true}, nil
	}
	t := ticket{raw: true, id: engine.ObjectID(fields[:16])}
	offset, chunk := binary.LittleEndian.Uint64(fields[16:]), binary.LittleEndian.Uint32(fields[24:])
	t.fetch = binary.LittleEndian.Uint32(fields[28:])&flagFetch != 0
	if offset > math.MaxInt64 || chunk > maxChunkBytes {
		return ticket{}, engine.Errorf(engine.KindInvalidArgument, op, t.id.String(), "offset %d or chunk of %d bytes is too large", offset, chunk)
	}
	t.offset, t.chunk = int64(offset), int(chunk)
	return t, nil
}

// description is what a holder says of its copy.
type description struct {
	total, rows, batches int64
	crc                  uint32
	// domain is the security domain. Empty means objectstore.DefaultDomain in a put; a holder always says it.
	domain string
}

// descriptionBytes is the length of a description but for the domain, which has maxDomainBytes at most.
const (
	descriptionBytes = 8 + 8 + 8 + 4
	maxDomainBytes   = 255
)

func (d description) append(b []byte) []byte {
	for _, n := range []int64{d.total, d.rows, d.batches} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n)) //nolint:gosec // Never negative.
	}
	b = binary.LittleEndian.AppendUint32(b, d.crc)
	return append(b, d.domain...)
}

func parseDescription(op, id string, b []byte) (description, error) {
	var numbers [3]int64
	for i := range numbers {
		n := binary.LittleEndian.Uint64(b[8*i:])
		if n > math.MaxInt64 {
			return description{}, engine.Errorf(engine.KindInvalidArgument, op, id, "%d is no number of bytes, rows, or batches", n)
		}
		numbers[i] = int64(n)
	}
	crc, domain := binary.LittleEndian.Uint32(b[24:]), string(b[descriptionBytes:])
	if !utf8.ValidString(domain) {
		return description{}, engine.Errorf(engine.KindInvalidArgument, op, id, "%q is no security domain", domain)
	}
	return description{total: numbers[0], rows: numbers[1], batches: numbers[2], crc: crc, domain: domain}, nil
}

// chunk is the metadata of a message with a part of an object's bytes.
type chunk struct {
	// offset is where the message's body belongs.
	offset int64
	description
}

const chunkMetadataBytes = 4 + 8 + descriptionBytes

func (c chunk) encode() []byte {
	b := make([]byte, 0, chunkMetadataBytes+len(c.domain))
	b = append(append(b, chunkMagic...), version)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.offset)) //nolint:gosec // Never negative.
	return c.description.append(b)
}

func parseChunk(b []byte) (chunk, error) {
	const op = "parse chunk"
	fields, ok, err := parseFields(op, chunkMagic, chunkMetadataBytes, maxDomainBytes, b)
	if err != nil {
		return chunk{}, err
	}
	if !ok {
		return chunk{}, engine.Errorf(engine.KindInvalidArgument, op, "", "not a chunk of an object")
	}
	offset := binary.LittleEndian.Uint64(fields)
	if offset > math.MaxInt64 {
		return chunk{}, engine.Errorf(engine.KindInvalidArgument, op, "", "offset %d is too large", offset)
	}
	d, err := parseDescription(op, "", fields[8:])
	return chunk{offset: int64(offset), description: d}, err
}

// rawPut is the command of a DoPut whose messages carry the bytes of an object, in order.
type rawPut struct {
	id engine.ObjectID
	description
}

const rawPutBytes = 4 + 16 + descriptionBytes

func (p rawPut) encode() []byte {
	b := make([]byte, 0, rawPutBytes+len(p.domain))
	b = append(append(b, putMagic...), version)
	b = append(b, p.id[:]...)
	return p.description.append(b)
}

// parseRawPut returns false for a command that is not ours.
func parseRawPut(b []byte) (rawPut, bool, error) {
	const op = "parse put"
	fields, ok, err := parseFields(op, putMagic, rawPutBytes, maxDomainBytes, b)
	if err != nil || !ok {
		return rawPut{}, false, err
	}
	p := rawPut{id: engine.ObjectID(fields[:16])}
	p.description, err = parseDescription(op, p.id.String(), fields[16:])
	return p, err == nil, err
}

// parseFields returns what follows the magic of a message of a length, and up to more bytes; false means that it is something else.
func parseFields(op, magic string, length, more int, b []byte) ([]byte, bool, error) {
	if len(b) < 4 || string(b[:3]) != magic {
		return nil, false, nil
	}
	if b[3] != version {
		return nil, false, engine.Errorf(engine.KindVersion, op, "", "the peer speaks version %q of the transfer protocol, this node %q", b[3], version)
	}
	if len(b) < length || len(b) > length+more {
		return nil, false, engine.Errorf(engine.KindInvalidArgument, op, "", "%d bytes, expected %d to %d", len(b), length, length+more)
	}
	return b[4:], true, nil
}
