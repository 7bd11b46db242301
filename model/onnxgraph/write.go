package onnxgraph

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/f708428e/engine"
)

// Names of the files that Write makes.
const (
	ModelFile = "model.onnx"
	DataFile  = "model.onnx.data"
)

const (
	// inlineBytes is up to which length a tensor stands in the ONNX file itself.
	inlineBytes = 1 << 10
	// alignBytes lets every tensor of the data file begin at a page, so that it can be mapped.
	alignBytes = 4 << 10

	irVersion    = 8
	opset        = 17
	producerName = "engine"
)

// Write writes the graph into folder, which must exist: the ONNX file, and the weights beside it, so that they can be mapped. Both are
// synced. What it has written when it fails stays there.
func (g *Graph) Write(ctx context.Context, folder string) error {
	data, err := g.writeData(ctx, filepath.Join(folder, DataFile))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(folder, ModelFile), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeData writes the large tensors and returns the content of the ONNX file.
func (g *Graph) writeData(ctx context.Context, path string) ([]byte, error) {
	var graph proto
	for _, n := range g.nodes {
		graph = graph.message(1, n)
	}
	graph = graph.text(2, g.config.ModelType)
	err := writeFile(path, func(w io.Writer) error {
		var at int64
		padding := make([]byte, alignBytes)
		for i := range g.initializers {
			t := &g.initializers[i]
			if err := ctx.Err(); err != nil {
				return err
			}
			p, size := tensor(t.name, t.dataType, t.dims), t.sizeBytes()
			if size <= inlineBytes {
				content, err := t.content()
				if err != nil {
					return err
				}
				graph = graph.message(5, p.message(9, content))
				continue
			}
			graph = graph.message(5, p.external(DataFile, at, size))
			if err := t.writeTo(w); err != nil {
				return err
			}
			gap := (alignBytes - size%alignBytes) % alignBytes
			if _, err := w.Write(padding[:gap]); err != nil {
				return err
			}
			at += size + gap
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	graph = graph.message(11, value(InputIDs, typeInt64, "batch", "length")).message(11, value(InputMask, typeInt64, "batch", "length"))
	if g.config.HasTokenTypes() {
		graph = graph.message(11, value(InputTypes, typeInt64, "batch", "length"))
	}
	graph = graph.message(12, value(Output, typeFloat, "batch", "length", g.config.Hidden))
	model := proto(nil).int(1, irVersion).text(2, producerName).message(7, graph)
	return model.message(8, proto(nil).text(1, "").int(2, opset)).message(8, proto(nil).text(1, contrib).int(2, 1)), nil
}

// content returns the data of a small tensor.
func (i *initializer) content() ([]byte, error) {
	if i.emit == nil {
		return i.raw, nil
	}
	var all []byte
	err := i.emit(func(values []float32) error {
		all = floats(all, values)
		return nil
	})
	return all, err
}

func (i *initializer) writeTo(w io.Writer) error {
	if i.emit == nil {
		_, err := w.Write(i.raw)
		return err
	}
	var buffer []byte
	return i.emit(func(values []float32) error {
		for len(values) > 0 {
			n := min(len(values), 16<<10)
			buffer = floats(buffer[:0], values[:n])
			if _, err := w.Write(buffer); err != nil {
				return err
			}
			values = values[n:]
		}
		return nil
	})
}

// writeFile makes a file with what fill writes, and syncs it.
func writeFile(path string, fill func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return engine.WrapError(op, path, err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	err = fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if errClose := file.Close(); err == nil {
		err = errClose
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return engine.Errorf(engine.KindExhausted, op, path, "%w", err).WithHint("free space on the disk, or put the cache on another one")
	}
	return engine.WrapError(op, path, err)
}
