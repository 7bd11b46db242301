package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

// Graph is what an ONNX file says of itself, weights left out.
type Graph struct {
	// Inputs are what a caller feeds: the graph's inputs without those that an initializer gives a default.
	Inputs []engine.TensorSpec
	// Outputs are all outputs, in the graph's order. A shape of nil means that the graph does not say; an empty one is a scalar.
	Outputs []engine.TensorSpec
	// Unsupported describes, in ONNX's words, the type of each input and output that an engine.TensorSpec cannot express, such
	// as "seq(map(int64, tensor(float)))". Its spec has type engine.ElementUnknown. Nil if there is none.
	Unsupported map[string]string
	// Opsets are the versions of operator sets that the model imports, by domain; ONNX's own domain is "ai.onnx".
	Opsets map[string]int64
	// Quantized says that operators multiply matrices of integers: the results are close to those of the model in float32, and
	// depend a little on what is computed together.
	Quantized bool
	// Producer is the program that wrote the model with its version, such as "skl2onnx 1.19.1"; may be empty.
	Producer string
	// IRVersion is the version of the file format.
	IRVersion int64
	// External is where weights outside the file lie, sorted by location. ReadONNX does not look at them.
	External []ExternalData
}

// knownDomains are the operator domains that ONNX Runtime implements by itself: ONNX's own, and its contributed operators.
var knownDomains = []string{"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}

// integerOperators multiply matrices of integers.
var integerOperators = []string{
	"MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QAttention", "ConvInteger", "QLinearConv",
}

// Limits on what one file may make us remember or do. For what it may make a runtime do see limits.go.
const (
	maxNesting   = 32
	maxValues    = 10_000
	maxOpsets    = 1_000
	maxFunctions = 100_000
	maxForeign   = 1_000
	maxExternal  = 100_000
	maxDims      = 64
)

// ReadONNX reads the graph of an ONNX file of sizeBytes bytes. It skips the weights: they are neither read nor kept. name stands
// in errors, which are of kind engine.KindModel: not an ONNX model, truncated, damaged, with operators of an unknown domain, or above a
// limit: loading it might take a runtime hours, or more memory than there is.
func ReadONNX(ctx context.Context, name string, r io.ReaderAt, sizeBytes int64) (*Graph, error) {
	g := &graphReader{
		wire:  wire{r: r, sizeBytes: sizeBytes},
		graph: &Graph{Opsets: map[string]int64{}}, functions: map[operator]bool{}, foreign: map[operator]bool{}, external: map[string]int64{},
		bodies: map[operator]*body{}, body: newBody(),
	}
	err := checkFileSize(sizeBytes)
	if err == nil {
		err = g.read(ctx)
	}
	var refusal *engine.Error
	switch {
	case err == nil:
		return g.graph, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &refusal):
		refusal.ID = name
		return nil, refusal
	case errors.Is(err, errTruncated) && g.irVersions > 0:
		return nil, engine.Errorf(engine.KindModel, op, name, "truncated: %w", err).WithHint("copy the file again")
	}
	if found := g.sniff(); found != "" {
		return nil, engine.Errorf(engine.KindModel, op, name, "not an ONNX model: found %s", found)
	}
	return nil, engine.Errorf(engine.KindModel, op, name, "not an ONNX model: %w", err)
}

// operator names an operator or a function of the model.
type operator struct{ domain, name string }

type graphReader struct {
	wire
	graph      *Graph
	irVersions int
	graphs     []field
	functions  map[operator]bool
	// foreign are the operators of unknown domains that nodes use. Functions of the model may define them.
	foreign  map[operator]bool
	external map[string]int64
	counts
	// body is what is being read: the main graph, or a function.
	body *body
	// bodies are the functions.
	bodies map[operator]*body
}

// read reads the ModelProto.
func (g *graphReader) read(ctx context.Context) error {
	var producer, version string
	err := g.each(ctx, 0, g.sizeBytes, func(f field) (err error) {
		switch {
		case f.number == 1 && f.kind == protowire.VarintType:
			g.irVersions++
			g.graph.IRVersion = int64(f.value)
		case f.number == 2 && f.kind == protowire.BytesType:
			producer, err = g.text(f)
		case f.number == 3 && f.kind == protowire.BytesType:
			version, err = g.text(f)
		case f.number == 7 && f.kind == protowire.BytesType:
			g.graphs = append(g.graphs, f)
			if len(g.graphs) > 1 {
				return fmt.Errorf("%w: more than one graph", errDamaged)
			}
			err = g.walkGraph(ctx, f, 0)
		case f.number == 8 && f.kind == protowire.BytesType:
			err = g.readOpset(ctx, f)
		case f.number == 25 && f.kind == protowire.BytesType:
			err = g.readFunction(ctx, f)
		case f.number <= 25 && f.kind != protowire.BytesType && f.number != 5:
			err = fmt.Errorf("%w: field %d has wire type %d", errDamaged, f.number, f.kind)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case g.irVersions == 0:
		return fmt.Errorf("it has no ir_version")
	case len(g.graphs) == 0:
		return fmt.Errorf("%w: no graph follows", errTruncated)
	case len(g.graph.Opsets) == 0:
		return fmt.Errorf("%w: no opset imports follow", errTruncated)
	}
	g.graph.Producer = producer
	if producer != "" && version != "" {
		g.graph.Producer += " " + version
	}
	if err := errors.Join(g.checkDomains(), g.checkExpansion()); err != nil {
		return err
	}
	for location, size := range g.external {
		g.graph.External = append(g.graph.External, ExternalData{Location: location, MinSizeBytes: size})
	}
	slices.SortFunc(g.graph.External, func(a, b ExternalData) int { return bytes.Compare([]byte(a.Location), []byte(b.Location)) })
	return g.readValues(ctx, g.graphs[0])
}

// checkDomains refuses operators that neither ONNX Runtime nor a function of the model defines.
func (g *graphReader) checkDomains() error {
	byDomain := map[string][]string{}
	for o := range g.foreign {
		if !g.functions[o] {
			byDomain[o.domain] = append(byDomain[o.domain], o.name)
		}
	}
	if len(byDomain) == 0 {
		return nil
	}
	var found string
	for i, domain := range sortedKeys(byDomain) {
		if i > 0 {
			found += "; "
		}
		names := byDomain[domain]
		slices.Sort(names)
		more := ""
		if len(names) > 5 {
			names, more = names[:5], fmt.Sprintf(" and %d more", len(names)-5)
		}
		found += fmt.Sprintf("%q (%s%s)", domain, joinNames(names), more)
	}
	return engine.Errorf(engine.KindModel, op, "", "operators of an unknown domain: %s", found).
		WithHint("export the model with operators of ai.onnx, ai.onnx.ml, or com.microsoft; the engine loads no operator libraries")
}

func (g *graphReader) readOpset(ctx context.Context, f field) error {
	domain, version := "", int64(0)
	err := g.each(ctx, f.start, f.end, func(f field) (err error) {
		switch f.number {
		case 1:
			domain, err = g.text(f)
		case 2:
			version = int64(f.value)
		}
		return err
	})
	if domain == "" {
		domain = "ai.onnx"
	}
	if g.graph.Opsets[domain] = max(version, g.graph.Opsets[domain]); len(g.graph.Opsets) > maxOpsets {
		return fmt.Errorf("%w: over %d opset imports", errDamaged, maxOpsets)
	}
	return err
}

func (g *graphReader) readFunction(ctx context.Context, f field) error {
	var id operator
	outer := g.body
	g.body = newBody()
	defer func() { g.body = outer }()
	err := g.each(ctx, f.start, f.end, func(f field) (err error) {
		switch f.number {
		case 1:
			id.name, err = g.text(f)
		case 7:
			err = g.walkNode(ctx, f, 1)
		case 10:
			id.domain, err = g.text(f)
		case 11:
			err = g.walkAttribute(ctx, f, 1)
		}
		return err
	})
	g.bodies[id] = g.body
	if g.functions[id] = true; len(g.functions) > maxFunctions {
		return fmt.Errorf("%w: over %d functions", errDamaged, maxFunctions)
	}
	return err
}

// message refuses a field that is no message, and nesting that only a damaged or hostile file has.
func message(f field, depth int) error {
	if f.kind != protowire.BytesType {
		return fmt.Errorf("%w: field %d has wire type %d, expected a message", errDamaged, f.number, f.kind)
	}
	if depth > maxNesting {
		return fmt.Errorf("%w: nested deeper than %d", errDamaged, maxNesting)
	}
	return nil
}

// walkGraph collects operators and external data of a GraphProto and the graphs within it.
func (g *graphReader) walkGraph(ctx context.Context, f field, depth int) error {
	if err := errors.Join(g.countGraph(depth), message(f, depth)); err != nil {
		return err
	}
	return g.each(ctx, f.start, f.end, func(f field) error {
		switch f.number {
		case 1:
			return g.walkNode(ctx, f, depth)
		case 5, 15:
			if err := g.countInitializer(); err != nil {
				return err
			}
			if f.number == 15 {
				return g.walkSparseTensor(ctx, f)
			}
			return g.walkTensor(ctx, f)
		}
		return nil
	})
}

func (g *graphReader) walkNode(ctx context.Context, f field, depth int) error {
	if err := errors.Join(g.countNode(), message(f, depth)); err != nil {
		return err
	}
	var id operator
	err := g.each(ctx, f.start, f.end, func(f field) (err error) {
		switch f.number {
		case 4:
			id.name, err = g.text(f)
		case 5:
			err = g.walkAttribute(ctx, f, depth+1)
		case 7:
			id.domain, err = g.text(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	g.body.calls[id]++
	g.graph.Quantized = g.graph.Quantized || slices.Contains(integerOperators, id.name)
	if !slices.Contains(knownDomains, id.domain) {
		if g.foreign[id] = true; len(g.foreign) > maxForeign {
			return fmt.Errorf("%w: over %d operators of unknown domains, such as %q", errDamaged, maxForeign, id.domain)
		}
	}
	return nil
}

func (g *graphReader) walkAttribute(ctx context.Context, f field, depth int) error {
	if err := message(f, depth); err != nil {
		return err
	}
	return g.each(ctx, f.start, f.end, func(f field) error {
		switch f.number {
		case 5, 10:
			return g.walkTensor(ctx, f)
		case 6, 11:
			return g.walkGraph(ctx, f, depth+1)
		case 22, 23:
			return g.walkSparseTensor(ctx, f)
		}
		return nil
	})
}

func (g *graphReader) walkSparseTensor(ctx context.Context, f field) error {
	if err := message(f, 0); err != nil {
		return err
	}
	return g.each(ctx, f.start, f.end, func(f field) error {
		if f.number == 1 || f.number == 2 {
			return g.walkTensor(ctx, f)
		}
		return nil
	})
}

// sniff names what a file is that is no ONNX model, or returns "".
func (g *graphReader) sniff() string {
	head, err := g.peek(0, 512)
	if err != nil {
		return ""
	}
	if len(head) == 0 {
		return "an empty file"
	}
	for _, known := range []struct {
		offset       int
		magic, found string
	}{
		{0, "PK\x03\x04", "a zip archive, as torch.save and Keras write"},
		{0, "\x89HDF\r\n", "an HDF5 file, as Keras writes"},
		{0, "version https://git-lfs", "a Git LFS pointer: the model itself was not fetched"},
		{0, "\x1f\x8b", "a gzip file"},
		{0, "\x80\x02", "a Python pickle"}, {0, "\x80\x03", "a Python pickle"}, {0, "\x80\x04", "a Python pickle"}, {0, "\x80\x05", "a Python pickle"},
		{0, "PAR1", "a Parquet file"},
		{0, "GGUF", "a GGUF file"},
		{4, "ORTM", "ONNX Runtime's own ORT format"},
		{4, "TFL3", "a TensorFlow Lite model"},
		{8, `{"`, "a safetensors file"},
	} {
		if len(head) > known.offset && bytes.HasPrefix(head[known.offset:], []byte(known.magic)) {
			return known.found
		}
	}
	// A text may be cut in the middle of a character.
	for cut := 0; cut < utf8.UTFMax && cut < len(head); cut++ {
		if isText(head[:len(head)-cut]) {
			return "a text file"
		}
	}
	return ""
}

func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}
