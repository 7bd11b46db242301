package postgres

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// reader reads the rows of one COPY as they come. Nothing runs while it is not asked: the server waits.
type reader struct {
	place   string
	options dataset.ReadOptions
	conn    *pgconn.HijackedConn // nil once closed
	rows    *decoder
	schema  *arrow.Schema
	// builders are one for each column.
	builders []array.Builder
	// ended says that the server has said that all rows were sent.
	ended bool
	// lastRow is the split's row at which the last record begins; read counts the rows before the next one.
	lastRow, read int64
	bytes         int64
}

func newReader(ctx context.Context, conn *session, place, copying string, schema *arrow.Schema, options dataset.ReadOptions) (_ *reader, err error) {
	r := &reader{place: place, options: options, schema: schema}
	for _, f := range schema.Fields() {
		r.builders = append(r.builders, array.NewBuilder(options.Allocator, f.Type))
	}
	if r.rows, err = newDecoder(schema, r.builders); err == nil {
		// The library would push rows; so they are pulled, a record batch at a time.
		r.conn, err = conn.PgConn().Hijack()
	}
	if err != nil {
		r.release()
		conn.close()
		return nil, classify(ctx, opRead, place, err)
	}
	r.conn.Frontend.SendQuery(&pgproto3.Query{String: copying})
	if err := r.conn.Frontend.Flush(); err != nil {
		err = classify(ctx, opRead, place, err)
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Read implements dataset.Reader.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if r.conn == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, r.place, "read after close")
	}
	conn := r.conn.Conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	budget := 8 * r.options.BatchBytes
	var rows, bits int64
	for rows < r.options.BatchRows {
		more, err := r.rows.next()
		if err != nil {
			return nil, engine.WrapError(opRead, r.where(r.read+rows), err)
		}
		if !more {
			if r.ended {
				break
			}
			if err := r.receive(); err != nil {
				return nil, classify(ctx, opRead, r.place, err)
			}
			continue
		}
		size := r.rows.bits()
		if rows > 0 && bits+size > budget {
			break
		}
		if err := r.rows.append(); err != nil {
			return nil, engine.WrapError(opRead, r.where(r.read+rows), err)
		}
		bits += size
		rows++
	}
	if rows == 0 {
		return nil, io.EOF
	}
	r.lastRow = r.read
	r.read += rows
	columns := make([]arrow.Array, len(r.builders))
	for i, b := range r.builders {
		columns[i] = newArray(b, r.schema.Field(i).Type)
	}
	record := array.NewRecord(r.schema, columns, rows)
	for _, c := range columns {
		c.Release()
	}
	return record, nil
}

// newArray returns what was built. Arrow's builders do not know of lists whose elements are never null, so the type is put right.
func newArray(b array.Builder, t arrow.DataType) arrow.Array {
	built := b.NewArray()
	if arrow.TypeEqual(built.DataType(), t) {
		return built
	}
	defer built.Release()
	data := built.Data()
	typed := array.NewData(t, data.Len(), data.Buffers(), data.Children(), data.NullN(), data.Offset())
	defer typed.Release()
	return array.MakeFromData(typed)
}

func (r *reader) release() {
	for _, b := range r.builders {
		b.Release()
	}
	r.builders = nil
}

// receive takes the server's next message.
func (r *reader) receive() error {
	r.rows.keep() // The next message may be where the last one was.
	message, err := r.conn.Frontend.Receive()
	if err != nil {
		return err
	}
	switch message := message.(type) {
	case *pgproto3.CopyData:
		r.bytes += int64(len(message.Data))
		r.rows.add(message.Data)
	case *pgproto3.ErrorResponse:
		return pgconn.ErrorResponseToPgError(message)
	case *pgproto3.CommandComplete:
		if !r.rows.complete() {
			return engine.Errorf(engine.KindCorrupt, opRead, r.place, "the server ended the COPY in the middle of a row")
		}
		r.ended = true
	}
	return nil
}

func (r *reader) where(row int64) string { return r.place + ", row " + strconv.FormatInt(row, 10) }

// Where implements dataset.Reader. The row is counted in the split, from 0; which row that is, is stable if the query's order is.
func (r *reader) Where(row int64) string { return r.where(r.lastRow + row) }

// BytesRead implements dataset.Reader. It counts what the server sent of rows.
func (r *reader) BytesRead() int64 { return r.bytes }

// Close implements dataset.Reader. A COPY that has not ended ends with its connection.
func (r *reader) Close() error {
	if r.conn == nil {
		return nil
	}
	r.release()
	r.conn.Frontend.Send(&pgproto3.Terminate{})
	if r.ended {
		_ = r.conn.Conn.SetDeadline(time.Now().Add(cancelTimeout))
		_ = r.conn.Frontend.Flush() // A courtesy.
	}
	_ = r.conn.Conn.Close() // Nothing is lost: it only read.
	r.conn = nil
	return nil
}
