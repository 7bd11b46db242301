package parquet

import (
	"encoding/binary"
	"errors"
)

// The libraries below arrow allocate whatever a damaged footer asks for, terabytes too, which ends the process and cannot be
// recovered from. So lengths are compared with the bytes there are before a footer goes to them.

var errDamaged = errors.New("its footer is damaged")

// maxDepth bounds nesting. Schemas of more levels are not found in the wild.
const maxDepth = 64

// verifyThrift walks a struct in Thrift's compact protocol, see
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
func verifyThrift(b []byte) error {
	w := thriftWalker{rest: b}
	if !w.structure(maxDepth) {
		return errDamaged
	}
	return nil
}

type thriftWalker struct{ rest []byte }

func (w *thriftWalker) skip(n uint64) bool {
	if n > uint64(len(w.rest)) {
		return false
	}
	w.rest = w.rest[n:]
	return true
}

func (w *thriftWalker) byte() (byte, bool) {
	if len(w.rest) == 0 {
		return 0, false
	}
	b := w.rest[0]
	w.rest = w.rest[1:]
	return b, true
}

func (w *thriftWalker) varint() (uint64, bool) {
	v, n := binary.Uvarint(w.rest)
	if n <= 0 {
		return 0, false
	}
	w.rest = w.rest[n:]
	return v, true
}

func (w *thriftWalker) structure(depth int) bool {
	for {
		head, ok := w.byte()
		if !ok || depth == 0 {
			return false
		}
		if head == 0 {
			return true
		}
		if head>>4 == 0 { // the field's number does not fit into the head
			if _, ok := w.varint(); !ok {
				return false
			}
		}
		if kind := head & 15; kind != 1 && kind != 2 && !w.value(kind, depth-1) { // 1 and 2 are true and false themselves
			return false
		}
	}
}

func (w *thriftWalker) value(kind byte, depth int) bool {
	if depth == 0 {
		return false
	}
	switch kind {
	case 1, 2, 3:
		return w.skip(1)
	case 4, 5, 6:
		_, ok := w.varint()
		return ok
	case 7:
		return w.skip(8)
	case 8:
		n, ok := w.varint()
		return ok && w.skip(n)
	case 9, 10:
		head, ok := w.byte()
		size := uint64(head >> 4)
		if ok && size == 15 {
			size, ok = w.varint()
		}
		if !ok || size > uint64(len(w.rest)) { // every element has a byte at least
			return false
		}
		for range size {
			if !w.value(head&15, depth-1) {
				return false
			}
		}
		return true
	case 12:
		return w.structure(depth)
	default: // Parquet has no maps
		return false
	}
}

// verifyArrowSchema checks an encapsulated schema message of Arrow's IPC format, and returns it without what may follow it. The
// numbers of the fields are those of Message.fbs and Schema.fbs.
func verifyArrowSchema(b []byte) ([]byte, error) {
	const continuation = 0xffffffff
	var end [8]byte
	binary.LittleEndian.PutUint32(end[:], continuation)
	if len(b) < 8 {
		return nil, errDamaged
	}
	head := 4
	size := uint64(binary.LittleEndian.Uint32(b))
	if size == continuation {
		head, size = 8, uint64(binary.LittleEndian.Uint32(b[4:]))
	}
	if size > uint64(len(b)-head) {
		return nil, errDamaged
	}
	v := flatWalker{b: b[head : head+int(size)], left: len(b)}
	if !v.message() {
		return nil, errDamaged
	}
	return append(append([]byte{}, b[:head+int(size)]...), end[:]...), nil
}

// flatWalker reads a FlatBuffer. Reading outside of it panics, which the caller recovers.
type flatWalker struct {
	b []byte
	// left bounds how many tables are visited: they may refer to each other in any way.
	left int
}

func (v *flatWalker) message() bool {
	const schemaHeader = 1
	root := int(binary.LittleEndian.Uint32(v.b))
	if kind := v.field(root, 1); kind == 0 || v.b[kind] != schemaHeader {
		return false
	}
	if body := v.field(root, 3); body != 0 && binary.LittleEndian.Uint64(v.b[body:]) != 0 {
		return false
	}
	header := v.field(root, 2)
	if header == 0 {
		return false
	}
	schema := v.follow(header)
	return v.vector(schema, 2, nil) && v.vector(schema, 1, func(field int) bool { return v.schemaField(field, maxDepth) })
}

func (v *flatWalker) schemaField(field, depth int) bool {
	const union = 14
	if v.left--; v.left < 0 || depth == 0 {
		return false
	}
	if kind := v.field(field, 2); kind != 0 && v.b[kind] == union {
		return false
	}
	return v.vector(field, 6, nil) && v.vector(field, 5, func(child int) bool { return v.schemaField(child, depth-1) })
}

// field returns where a table's field stands, or 0.
func (v *flatWalker) field(table, number int) int {
	vtable := table - int(int32(binary.LittleEndian.Uint32(v.b[table:])))
	at := 4 + 2*number
	if at >= int(binary.LittleEndian.Uint16(v.b[vtable:])) {
		return 0
	}
	if offset := int(binary.LittleEndian.Uint16(v.b[vtable+at:])); offset != 0 {
		return table + offset
	}
	return 0
}

func (v *flatWalker) follow(at int) int { return at + int(binary.LittleEndian.Uint32(v.b[at:])) }

// vector checks a vector of tables and visits them.
func (v *flatWalker) vector(table, number int, visit func(int) bool) bool {
	at := v.field(table, number)
	if at == 0 {
		return true
	}
	start := v.follow(at)
	size := int64(binary.LittleEndian.Uint32(v.b[start:]))
	if start += 4; size*4 > int64(len(v.b)-start) {
		return false
	}
	for i := range int(size) {
		if visit != nil && !visit(v.follow(start+4*i)) {
			return false
		}
	}
	return true
}
