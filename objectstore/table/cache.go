package table

import (
	"bytes"
	"strings"
	"sync"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
)

// A schema is read and written far more often than it changes: for a small table, making it takes most of the time. So the last ones
// are kept, up to these bounds, and only those whose messages are short, which keeps a few MiB at most.
const (
	maxCached      = 64
	maxCachedBytes = 16 << 10
)

// cache is a map that is emptied when it is full. It is safe for concurrent use; what is in it never changes.
type cache[K comparable, V any] struct {
	mu     sync.RWMutex
	values map[K]V
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	value, ok = c.values[key]
	return value, ok
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil || len(c.values) == maxCached {
		c.values = map[K]V{}
	}
	c.values[key] = value
}

// readSchema is what a schema's message says.
type readSchema struct {
	schema *arrow.Schema
	nodes  []*node
	// dictionaries are the values' nodes by the dictionary's id.
	dictionaries map[int64]*node
}

// readSchemas are by the bytes of their message.
var readSchemas cache[string, *readSchema]

// schemaOf reads the schema of a message, unless one with the same bytes was read before.
func schemaOf(message []byte, header flatTable) (*readSchema, error) {
	short := len(message) <= maxCachedBytes
	if short {
		// The key is looked up and not kept, so it need not be copied.
		if known, ok := readSchemas.get(unsafe.String(unsafe.SliceData(message), len(message))); ok {
			return known, nil
		}
	}
	var reader schemaReader
	schema, nodes, err := reader.schema(header)
	if err != nil {
		return nil, err
	}
	read := &readSchema{schema: schema, nodes: nodes, dictionaries: reader.dictionaries}
	// What an extension's name means may change while the program runs.
	if short && !bytes.Contains(message, []byte(extensionName)) {
		readSchemas.put(strings.Clone(unsafe.String(unsafe.SliceData(message), len(message))), read)
	}
	return read, nil
}

// writtenSchema is a schema as it is written.
type writtenSchema struct {
	nodes []*node
	// message is framed, and shared: nobody writes to it.
	message []byte
}

// writtenSchemas are by address: two schemas that are equal may be written differently.
var writtenSchemas cache[*arrow.Schema, *writtenSchema]

// schema returns the schema's message, and the nodes of its fields.
func (e *encoder) schema(schema *arrow.Schema) (*writtenSchema, error) {
	if known, ok := writtenSchemas.get(schema); ok {
		return known, nil
	}
	nodes, err := newNodes(schema)
	if err != nil {
		return nil, err
	}
	e.builder.Reset()
	header, err := writeSchema(e.builder, schema, nodes)
	if err != nil {
		return nil, err
	}
	written := &writtenSchema{nodes: nodes, message: e.message(headerSchema, header, 0)}
	if len(written.message) <= maxCachedBytes {
		writtenSchemas.put(schema, written)
	}
	return written, nil
}
