package table

import (
	"encoding/binary"
	"errors"
)

// flat reads a flatbuffer whose bytes nobody vouches for. A read that would leave the buffer gives zero and marks it as broken, so
// that a reader asks once, at the end of a message. Loops over a vector are bounded by the buffer's length.
//
// See https://flatbuffers.dev/internals for the format.
type flat struct {
	data []byte
	// text is data as a string, of which all strings that are read are parts: one copy for all.
	text   string
	broken bool
}

// errBroken is a flatbuffer with a reference out of its bounds.
var errBroken = errors.New("broken metadata: a reference leads out of the message")

// flatTable is one table of a flatbuffer. The zero flatTable has no fields: each has its default.
type flatTable struct {
	flat *flat
	// start is where the fields are; vtable says at which offset each is.
	start  int
	vtable []byte
}

// flatVector is a vector: count elements from start on. The zero flatVector is empty.
type flatVector struct {
	flat         *flat
	start, count int
}

// root returns the table that the buffer begins with.
func (f *flat) root() flatTable { return f.table(f.reference(0)) }

// reference returns where the unsigned offset at a place leads, or -1.
func (f *flat) reference(at int) int {
	if at < 0 || at > len(f.data)-4 {
		f.broken = true
		return -1
	}
	target := at + int(binary.LittleEndian.Uint32(f.data[at:]))
	if target > len(f.data)-4 {
		f.broken = true
		return -1
	}
	return target
}

// table returns the table at a place; -1 gives none.
func (f *flat) table(at int) flatTable {
	if at < 0 {
		return flatTable{flat: f}
	}
	vtable := at - int(int32(binary.LittleEndian.Uint32(f.data[at:])))
	if vtable < 0 || vtable > len(f.data)-4 {
		f.broken = true
		return flatTable{flat: f}
	}
	length := int(binary.LittleEndian.Uint16(f.data[vtable:]))
	// The size of the table follows. It is not to be relied on: Go's builder lets tables of different sizes share a vtable.
	if length < 4 || length > len(f.data)-vtable {
		f.broken = true
		return flatTable{flat: f}
	}
	return flatTable{flat: f, start: at, vtable: f.data[vtable : vtable+length]}
}

// field returns where a field of so many bytes is, or -1 if the table does not have it.
func (t flatTable) field(slot, width int) int {
	entry := 4 + 2*slot
	if entry+2 > len(t.vtable) {
		return -1
	}
	offset := int(binary.LittleEndian.Uint16(t.vtable[entry:]))
	if offset == 0 {
		return -1
	}
	if offset < 4 || offset+width > len(t.flat.data)-t.start {
		t.flat.broken = true
		return -1
	}
	return t.start + offset
}

func (t flatTable) uint8(slot int, otherwise uint8) uint8 {
	at := t.field(slot, 1)
	if at < 0 {
		return otherwise
	}
	return t.flat.data[at]
}

func (t flatTable) bool(slot int) bool { return t.uint8(slot, 0) != 0 }

func (t flatTable) int16(slot int, otherwise int16) int16 {
	at := t.field(slot, 2)
	if at < 0 {
		return otherwise
	}
	return int16(binary.LittleEndian.Uint16(t.flat.data[at:]))
}

func (t flatTable) int32(slot int, otherwise int32) int32 {
	at := t.field(slot, 4)
	if at < 0 {
		return otherwise
	}
	return int32(binary.LittleEndian.Uint32(t.flat.data[at:]))
}

func (t flatTable) int64(slot int) int64 {
	at := t.field(slot, 8)
	if at < 0 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(t.flat.data[at:]))
}

// has says whether a field that refers to something is there.
func (t flatTable) has(slot int) bool { return t.field(slot, 4) >= 0 }

// table returns the table that a field refers to; an empty one if the field is not there.
func (t flatTable) table(slot int) flatTable {
	at := t.field(slot, 4)
	if at < 0 {
		return flatTable{flat: t.flat}
	}
	return t.flat.table(t.flat.reference(at))
}

// vector returns the vector that a field refers to, with elements of so many bytes; an empty one if the field is not there.
func (t flatTable) vector(slot, stride int) flatVector {
	at := t.field(slot, 4)
	if at < 0 {
		return flatVector{}
	}
	start := t.flat.reference(at)
	if start < 0 {
		return flatVector{}
	}
	count := int(binary.LittleEndian.Uint32(t.flat.data[start:]))
	start += 4
	if count > (len(t.flat.data)-start)/stride {
		t.flat.broken = true
		return flatVector{}
	}
	return flatVector{flat: t.flat, start: start, count: count}
}

// string returns the string that a field refers to; an empty one if the field is not there.
func (t flatTable) string(slot int) string {
	v := t.vector(slot, 1)
	if v.count == 0 {
		return ""
	}
	if t.flat.text == "" {
		t.flat.text = string(t.flat.data)
	}
	return t.flat.text[v.start : v.start+v.count]
}

// table returns element i, a table. i is less than count.
func (v flatVector) table(i int) flatTable {
	return v.flat.table(v.flat.reference(v.start + 4*i))
}

// int32 returns element i of 4 bytes.
func (v flatVector) int32(i int) int32 {
	return int32(binary.LittleEndian.Uint32(v.flat.data[v.start+4*i:]))
}

// int64 returns element i of 8 bytes; in a vector of pairs of them, a pair is two elements.
func (v flatVector) int64(i int) int64 {
	return int64(binary.LittleEndian.Uint64(v.flat.data[v.start+8*i:]))
}
