package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/apache/arrow/go/v15/parquet/metadata"
)

// stickyWriter remembers the first error, also when arrow does not hand it on. It hides that the underlying writer can be closed
// or told its position, which arrow would use. While it holds, the last three writes are kept back: at the end of a file they are
// the footer, its length, and the magic.
type stickyWriter struct {
	to     io.Writer
	failed error
	hold   bool
	held   [][]byte
}

func (w *stickyWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	if !w.hold {
		return len(p), w.write(p)
	}
	w.held = append(w.held, bytes.Clone(p))
	if len(w.held) > 3 {
		first := w.held[0]
		w.held = w.held[1:]
		return len(p), w.write(first)
	}
	return len(p), nil
}

func (w *stickyWriter) write(p []byte) error {
	n, err := w.to.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.failed = err
	return err
}

// release corrects the footer and writes it. Arrow v15 counts no distinct values and yet says for every column that there are 0,
// which a reader may plan by.
func (w *stickyWriter) release() error {
	if w.failed != nil {
		return w.failed
	}
	if len(w.held) != 3 || len(w.held[1]) != 4 || int(binary.LittleEndian.Uint32(w.held[1])) != len(w.held[0]) {
		return errors.New("the footer is not where it should be")
	}
	footer, err := metadata.NewFileMetaData(w.held[0], nil)
	if err != nil {
		return err
	}
	for _, group := range footer.RowGroups {
		for _, chunk := range group.Columns {
			if s := chunk.MetaData.Statistics; s != nil {
				s.DistinctCount = nil
			}
		}
	}
	var out bytes.Buffer
	if _, err := footer.WriteTo(&out, nil); err != nil {
		return err
	}
	size := out.Len()
	if err := binary.Write(&out, binary.LittleEndian, uint32(size)); err != nil {
		return err
	}
	out.Write(w.held[2])
	return w.write(out.Bytes())
}
