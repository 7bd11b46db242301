package onnxgraph

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

// fileGraph is a graph that was read from an ONNX file, as far as it takes part in a rewriting. Everything else is kept as it is.
type fileGraph struct {
	folder string
	// model and graph are the fields of the messages that stay.
	model, graph proto
	irVersion    int64
	opsets       map[string]int64
	nodes        []fileNode
	initializers []*fileTensor
	byName       map[string]*fileTensor
	// inputs are the graph's, whole.
	inputs []fileValue
	// uses counts how often a name is an input of a node, also within loops and branches, or an output of the graph.
	uses map[string]int
	data map[string]*os.File
}

type fileNode struct {
	raw                    proto
	inputs, outputs        []string
	name, operator, domain string
	attributes             []proto
	attributeNames         []string
	integers               map[string]int64
	// replacement takes the node's place.
	replacement []proto
}

type fileValue struct {
	raw  proto
	name string
}

// fileTensor is an initializer.
type fileTensor struct {
	raw      proto
	name     string
	dataType int64
	dims     []int64
	// content is raw_data. Nil if the data is elsewhere.
	content []byte
	floats  []float32
	// location, offset, and length say where external data is.
	location       string
	offset, length int64
	external       bool
}

var errBroken = errors.New("not a well-formed ONNX file")

// fields calls visit with each field of a message: its content without the tag and length, and all of its bytes.
func fields(message []byte, visit func(number protowire.Number, kind protowire.Type, content, whole []byte) error) error {
	for len(message) > 0 {
		number, kind, tagBytes := protowire.ConsumeTag(message)
		if tagBytes < 0 {
			return errBroken
		}
		n := protowire.ConsumeFieldValue(number, kind, message[tagBytes:])
		if n < 0 {
			return errBroken
		}
		content := message[tagBytes : tagBytes+n]
		if kind == protowire.BytesType {
			var ok int
			if content, ok = protowire.ConsumeBytes(content); ok < 0 {
				return errBroken
			}
		}
		if err := visit(number, kind, content, message[:tagBytes+n]); err != nil {
			return err
		}
		message = message[tagBytes+n:]
	}
	return nil
}

// varint is the value of a field that is a number.
func varint(content []byte) int64 {
	v, _ := protowire.ConsumeVarint(content) // fields has looked at it
	return int64(v)
}

// readGraph reads the ONNX file at path, whose external data lies in folder.
func readGraph(content []byte, folder string) (*fileGraph, error) {
	g := &fileGraph{folder: folder, opsets: map[string]int64{}, byName: map[string]*fileTensor{}, uses: map[string]int{}, data: map[string]*os.File{}}
	err := fields(content, func(number protowire.Number, kind protowire.Type, content, whole []byte) error {
		switch {
		case number == 1 && kind == protowire.VarintType:
			g.irVersion = varint(content)
		case number == 7 && kind == protowire.BytesType:
			return g.readGraph(content)
		case number == 8 && kind == protowire.BytesType:
			return g.readOpset(content)
		default:
			g.model = append(g.model, whole...)
		}
		return nil
	})
	return g, err
}

func (g *fileGraph) readOpset(message []byte) error {
	domain, version := "", int64(0)
	err := fields(message, func(number protowire.Number, _ protowire.Type, content, _ []byte) error {
		switch number {
		case 1:
			domain = string(content)
		case 2:
			version = varint(content)
		}
		return nil
	})
	if domain == "ai.onnx" {
		domain = ""
	}
	g.opsets[domain] = max(version, g.opsets[domain])
	return err
}

func (g *fileGraph) readGraph(message []byte) error {
	return fields(message, func(number protowire.Number, kind protowire.Type, content, whole []byte) error {
		if kind != protowire.BytesType {
			g.graph = append(g.graph, whole...)
			return nil
		}
		switch number {
		case 1:
			n, err := readNode(content)
			if err != nil {
				return err
			}
			g.nodes = append(g.nodes, n)
			return g.countUses(content, 0)
		case 5:
			t, err := readTensor(content)
			if err != nil {
				return err
			}
			g.initializers = append(g.initializers, t)
			g.byName[t.name] = t
		case 11:
			name, err := firstText(content)
			g.inputs = append(g.inputs, fileValue{content, name})
			return err
		case 12:
			name, err := firstText(content)
			g.uses[name]++
			g.graph = append(g.graph, whole...)
			return err
		default:
			g.graph = append(g.graph, whole...)
		}
		return nil
	})
}

// firstText is field 1 of a message, which is the name of a ValueInfoProto and of an AttributeProto.
func firstText(message []byte) (text string, err error) {
	err = fields(message, func(number protowire.Number, kind protowire.Type, content, _ []byte) error {
		if number == 1 && kind == protowire.BytesType {
			text = string(content)
		}
		return nil
	})
	return text, err
}

// countUses counts the inputs of a node and of all nodes of the graphs within it.
func (g *fileGraph) countUses(node []byte, depth int) error {
	const most = 32
	if depth > most {
		return fmt.Errorf("%w: nested deeper than %d", errBroken, most)
	}
	return fields(node, func(number protowire.Number, kind protowire.Type, content, _ []byte) error {
		switch {
		case kind != protowire.BytesType:
		case number == 1:
			g.uses[string(content)]++
		case number == 5:
			return fields(content, func(number protowire.Number, kind protowire.Type, graph, _ []byte) error {
				if kind != protowire.BytesType || number != 6 && number != 11 {
					return nil
				}
				return fields(graph, func(number protowire.Number, kind protowire.Type, inner, _ []byte) error {
					if kind == protowire.BytesType && number == 1 {
						return g.countUses(inner, depth+1)
					}
					if kind == protowire.BytesType && number == 12 {
						name, err := firstText(inner)
						g.uses[name]++
						return err
					}
					return nil
				})
			})
		}
		return nil
	})
}

func readNode(message []byte) (fileNode, error) {
	n := fileNode{raw: message, integers: map[string]int64{}}
	err := fields(message, func(number protowire.Number, kind protowire.Type, content, _ []byte) error {
		if kind != protowire.BytesType {
			return nil
		}
		switch number {
		case 1:
			n.inputs = append(n.inputs, string(content))
		case 2:
			n.outputs = append(n.outputs, string(content))
		case 3:
			n.name = string(content)
		case 4:
			n.operator = string(content)
		case 5:
			name, err := firstText(content)
			if err != nil {
				return err
			}
			n.attributes, n.attributeNames = append(n.attributes, content), append(n.attributeNames, name)
			return fields(content, func(number protowire.Number, kind protowire.Type, value, _ []byte) error {
				if number == 3 && kind == protowire.VarintType {
					n.integers[name] = varint(value)
				}
				return nil
			})
		case 7:
			n.domain = string(content)
		}
		return nil
	})
	if n.domain == "ai.onnx" {
		n.domain = ""
	}
	return n, err
}

// input returns the name of an input; "" if the node has none there.
func (n *fileNode) input(i int) string {
	if i < len(n.inputs) {
		return n.inputs[i]
	}
	return ""
}

func readTensor(message []byte) (*fileTensor, error) {
	t := &fileTensor{raw: message}
	err := fields(message, func(number protowire.Number, kind protowire.Type, content, _ []byte) error {
		switch {
		case number == 1 && kind == protowire.VarintType:
			t.dims = append(t.dims, varint(content))
		case number == 1 && kind == protowire.BytesType:
			for len(content) > 0 {
				v, n := protowire.ConsumeVarint(content)
				if n < 0 {
					return errBroken
				}
				t.dims, content = append(t.dims, int64(v)), content[n:]
			}
		case number == 2 && kind == protowire.VarintType:
			t.dataType = varint(content)
		case number == 4 && kind == protowire.BytesType:
			for ; len(content) >= 4; content = content[4:] {
				t.floats = append(t.floats, math.Float32frombits(binary.LittleEndian.Uint32(content)))
			}
		case number == 4 && kind == protowire.Fixed32Type:
			t.floats = append(t.floats, math.Float32frombits(binary.LittleEndian.Uint32(content)))
		case number == 8 && kind == protowire.BytesType:
			t.name = string(content)
		case number == 9 && kind == protowire.BytesType:
			t.content = content
		case number == 13 && kind == protowire.BytesType:
			return t.readExternal(content)
		case number == 14 && kind == protowire.VarintType:
			t.external = varint(content) == 1
		}
		return nil
	})
	for _, d := range t.dims {
		if d < 0 || d > math.MaxInt32 {
			return t, fmt.Errorf("%w: tensor %q has shape %v", errBroken, t.name, t.dims)
		}
	}
	return t, err
}

func (t *fileTensor) readExternal(entry []byte) error {
	var key, value string
	err := fields(entry, func(number protowire.Number, _ protowire.Type, content, _ []byte) error {
		switch number {
		case 1:
			key = string(content)
		case 2:
			value = string(content)
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch key {
	case "location":
		t.location = value
	case "offset":
		t.offset, err = strconv.ParseInt(value, 10, 64)
	case "length":
		t.length, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil || t.offset < 0 || t.length < 0 {
		return fmt.Errorf("%w: tensor %q: %s %q", errBroken, t.name, key, value)
	}
	return nil
}

// section opens the external data of a tensor.
func (g *fileGraph) section(t *fileTensor) (*io.SectionReader, error) {
	if !filepath.IsLocal(filepath.FromSlash(t.location)) {
		return nil, fmt.Errorf("external data %q is not a path inside the model's folder", t.location)
	}
	f := g.data[t.location]
	if f == nil {
		var err error
		if f, err = engine.OpenRegular(filepath.Join(g.folder, filepath.FromSlash(t.location))); err != nil {
			return nil, err
		}
		g.data[t.location] = f
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	length := t.length
	if length == 0 {
		length = info.Size() - t.offset
	}
	if length < 0 || t.offset > info.Size() || length > info.Size()-t.offset {
		return nil, fmt.Errorf("external data %q is truncated: tensor %q ends at byte %d of %d", t.location, t.name, t.offset+max(length, 0), info.Size())
	}
	return io.NewSectionReader(f, t.offset, length), nil
}

// elements is the product of the dimensions.
func (t *fileTensor) elements() int64 {
	n := int64(1)
	for _, d := range t.dims {
		if n *= d; n > 1<<40 {
			return n
		}
	}
	return n
}

// read returns the elements of a tensor of floats.
func (g *fileGraph) read(t *fileTensor) ([]float32, error) {
	n := t.elements()
	wrong := func(found int64) error {
		return fmt.Errorf("%w: tensor %q of shape %v has %d bytes", errBroken, t.name, t.dims, found)
	}
	content := t.content
	switch {
	case t.external:
		r, err := g.section(t)
		if err != nil {
			return nil, err
		}
		if r.Size() != 4*n {
			return nil, wrong(r.Size())
		}
		content = make([]byte, r.Size())
		if _, err := io.ReadFull(r, content); err != nil {
			return nil, err
		}
	case content == nil:
		if int64(len(t.floats)) != n {
			return nil, wrong(4 * int64(len(t.floats)))
		}
		return t.floats, nil
	case int64(len(content)) != 4*n:
		return nil, wrong(int64(len(content)))
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
	}
	return values, nil
}

func (g *fileGraph) close() {
	for _, f := range g.data {
		_ = f.Close() // Only read.
	}
}
