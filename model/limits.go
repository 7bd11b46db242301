package model

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
)

// Limits on what a model may make a runtime do while it loads it. Models for which they are too narrow are not known; a large language model
// has some 10,000 nodes and 1,000 initializers.
const (
	// maxFileBytes is what protobuf can read.
	maxFileBytes = 2 << 30
	// maxExternalBytes bounds the files beside it, together.
	maxExternalBytes = 1 << 40
	// maxGraphDepth is how deep graphs may lie within each other, as bodies of If, Loop, and Scan. A runtime resolves the inner ones again for
	// each outer one.
	maxGraphDepth = 12
	maxGraphs     = 4_000
	maxNodes      = 250_000
	// maxInitializers counts those of all graphs.
	maxInitializers = 250_000
	// maxExpanded is how many nodes there may be when all calls of functions have been replaced by the functions' nodes.
	maxExpanded = 1_000_000
)

// errLimit is a model above a limit.
func errLimit(format string, args ...any) error {
	return engine.Errorf(engine.KindModel, op, "", "%s, which is the limit", fmt.Sprintf(format, args...)).
		WithHint("export the model with fewer or flatter graphs; the engine loads no model that might keep a worker for hours")
}

func checkFileSize(sizeBytes int64) error {
	if sizeBytes > maxFileBytes {
		return errLimit("the file has more than %s", engine.FormatSize(maxFileBytes))
	}
	return nil
}

// counts is what a file has of everything that is limited.
type counts struct{ graphs, nodes, initializers int }

// countGraph counts a graph; depth is that of messages, of which an attribute takes one and its graph another.
func (c *counts) countGraph(depth int) error {
	c.graphs++
	switch {
	case depth/2 > maxGraphDepth:
		return errLimit("graphs are nested deeper than %d", maxGraphDepth)
	case c.graphs > maxGraphs:
		return errLimit("there are more than %d graphs", maxGraphs)
	}
	return nil
}

func (c *counts) countNode() error {
	if c.nodes++; c.nodes > maxNodes {
		return errLimit("there are more than %d nodes", maxNodes)
	}
	return nil
}

func (c *counts) countInitializer() error {
	if c.initializers++; c.initializers > maxInitializers {
		return errLimit("there are more than %d initializers", maxInitializers)
	}
	return nil
}

// body is what a graph or a function consists of: how often which operators.
type body struct {
	calls map[operator]int
	// expanded is how many nodes that makes, once it is known.
	expanded int
	entered  bool
}

func newBody() *body { return &body{calls: map[operator]int{}, expanded: -1} }

// checkExpansion refuses functions that call themselves, and calls that multiply.
func (g *graphReader) checkExpansion() error {
	_, err := g.expand(g.body)
	return err
}

// expand returns how many nodes a body has when its calls are replaced by what they call, and what those call. Functions without an end
// are refused, so that its own depth is bounded by their number.
func (g *graphReader) expand(b *body) (int, error) {
	if b.expanded >= 0 {
		return b.expanded, nil
	}
	b.entered = true
	sum := 0
	for called, times := range b.calls {
		nodes := 1
		if f := g.bodies[called]; f != nil {
			if f.entered && f.expanded < 0 {
				return 0, engine.Errorf(engine.KindModel, op, "", "the function %s calls itself", called.name)
			}
			var err error
			if nodes, err = g.expand(f); err != nil {
				return 0, err
			}
		}
		if nodes > 0 && times > (maxExpanded-sum)/nodes {
			return 0, errLimit("its functions make more than %d nodes", maxExpanded)
		}
		sum += times * nodes
	}
	b.expanded = sum
	return sum, nil
}

// extent compares how many elements a tensor declares with the data that it has.
type extent struct {
	elements int64 // math.MaxInt64 if there are more
	bytes    int64
}

// add counts a field with data.
func (e *extent) add(f field) {
	if f.kind == protowire.BytesType {
		e.bytes += f.end - f.start
	}
	e.bytes += 2 // A field of its own for each element takes that much at least.
}

// minElementBits is how much data an element has at least.
const minElementBits = 2

func (e *extent) check(name string) error {
	if e.elements > e.bytes*(8/minElementBits) {
		return engine.Errorf(engine.KindModel, op, "", "tensor %q: it declares more elements than its %d bytes hold", name, e.bytes)
	}
	return nil
}

// readDims multiplies dimensions, which come packed or one a field.
func (g *graphReader) readDims(f field, e *extent) error {
	multiply := func(dim uint64) error {
		switch {
		case dim > math.MaxInt64:
			return fmt.Errorf("%w: a dimension is negative", errDamaged)
		case dim != 0 && e.elements > math.MaxInt64/int64(dim): //nolint:gosec // See above.
			e.elements = math.MaxInt64
		default:
			e.elements *= int64(dim) //nolint:gosec // See above.
		}
		return nil
	}
	if f.kind == protowire.VarintType {
		return multiply(f.value)
	}
	if f.kind != protowire.BytesType || f.end-f.start > maxTextBytes {
		return fmt.Errorf("%w: the dimensions of a tensor", errDamaged)
	}
	packed, err := g.peek(f.start, int(f.end-f.start))
	if err != nil {
		return err
	}
	for len(packed) > 0 {
		dim, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return fmt.Errorf("%w: the dimensions of a tensor", errDamaged)
		}
		if err := multiply(dim); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}
