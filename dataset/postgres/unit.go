package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/failpoint"
)

// Commit is what engine_commits says of a unit.
type Commit struct {
	// Epoch is the lease's of the attempt that made it.
	Epoch uint64
	// Rows and SizeBytes are what was copied; bytes are those of the COPY.
	Rows, SizeBytes int64
	// Details is JSON that the attempt kept with it.
	Details json.RawMessage
}

// Unit is one unit of a job in the making: rows that appear together, or not at all. It is a transaction, and must end with Publish or
// Close. It is not safe for concurrent use.
type Unit struct {
	target  *Target
	session *session
	unit    int
	epoch   uint64
	columns []written
	fields  []arrow.Field

	cancel context.CancelFunc
	to     *io.PipeWriter
	copied chan copyResult // nil once received
	buffer []byte
	rows   int64
	bytes  int64
}

type copyResult struct {
	rows int64
	err  error
}

// chunkBytes is about how much is handed to the connection at once.
const chunkBytes = 64 << 10

// Begin starts a unit, or returns the one that an earlier attempt has committed. The first to come creates the table if it is not there. A transaction of an earlier attempt that still stands is
// ended. ctx bounds the unit until Publish.
func (t *Target) Begin(ctx context.Context, unit int, epoch uint64, schema *arrow.Schema) (*Unit, *Commit, error) {
	if err := CheckSchema(schema); err != nil {
		return nil, nil, engine.WrapError("", t.String(), err)
	}
	s, err := t.connect(ctx, strconv.Itoa(unit))
	if err != nil {
		return nil, nil, err
	}
	u := &Unit{target: t, session: s, unit: unit, epoch: epoch, fields: schema.Fields()}
	found, err := u.begin(ctx, schema)
	if err != nil || found != nil {
		s.close()
		return nil, found, err
	}
	return u, nil, nil
}

func (u *Unit) begin(ctx context.Context, schema *arrow.Schema) (*Commit, error) {
	t, s := u.target, u.session
	// An attempt that is lost, but whose connection stands, would hold its locks. Who may not end it waits instead.
	if err := t.endSessions(ctx, s, "application_name = $1", t.application(strconv.Itoa(u.unit))); err != nil {
		return nil, err
	}
	if found, err := u.look(ctx); err != nil || found != nil {
		return found, err
	}
	if err := t.ensure(ctx, s, schema); err != nil {
		return nil, err
	}
	if err := s.run(ctx, opWrite, "BEGIN", "SET LOCAL client_min_messages = error",
		fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", milliseconds(t.database.timeout))); err != nil {
		return nil, err
	}
	var err error
	if u.columns, err = t.assign(ctx, s, t.work(), schema); err != nil {
		return nil, err
	}
	names := make([]string, len(u.fields))
	for i, f := range u.fields {
		names[i] = quote(f.Name)
	}
	copying := "COPY " + t.work().sql() + " (" + strings.Join(names, ", ") + ") FROM STDIN (FORMAT binary)"
	from, to := io.Pipe()
	ctx, u.cancel = context.WithCancel(ctx)
	u.to, u.copied = to, make(chan copyResult, 1)
	s.resting.Store(true) // Steps may take as long as they like before they have something to copy.
	go func() {           // lifecycle: ends with the pipe, which Publish or Close ends, or with the connection.
		tag, err := s.PgConn().CopyFrom(ctx, from, copying)
		_ = from.CloseWithError(errCopyEnded) // never fails
		u.copied <- copyResult{tag.RowsAffected(), err}
	}()
	u.buffer = append(make([]byte, 0, chunkBytes+chunkBytes/4), copySignature...)
	u.buffer = append(u.buffer, 0, 0, 0, 0, 0, 0, 0, 0)
	return nil, nil //nolint:nilnil // There is none, which is no error.
}

// errCopyEnded is what a write says after the server has ended the COPY; why it has, the COPY says.
var errCopyEnded = errors.New("the COPY has ended")

// look returns what was committed of the unit.
func (u *Unit) look(ctx context.Context) (*Commit, error) {
	t := u.target
	var c Commit
	var epoch int64
	var details string
	found, err := u.session.row(ctx, opWrite, "SELECT epoch, row_count, byte_count, details::text FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit = $3",
		[]any{string(t.job), t.table.sql(), int64(u.unit)}, &epoch, &c.Rows, &c.SizeBytes, &details)
	if err != nil || !found {
		return nil, err
	}
	c.Epoch = uint64(epoch) //nolint:gosec // It was one.
	c.Details = json.RawMessage(details)
	return &c, nil
}

// Write copies a record batch, which stays the caller's. Rows with a value that the table cannot have it leaves out, and returns them as
// dataset.RefusedRows when it has copied the others. An error of the server may show at a later Write, or at Publish.
func (u *Unit) Write(ctx context.Context, record arrow.Record) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	columns := record.Columns()
	encoders := make([]encoder, len(columns))
	for i, c := range columns {
		var err error
		if encoders[i], err = u.columns[i].binder(c); err != nil {
			return err
		}
	}
	var left dataset.RefusedRows
	for row := range int(record.NumRows()) {
		appended := binary.BigEndian.AppendUint16(u.buffer, uint16(len(columns))) //nolint:gosec // CheckSchema bounds them.
		var err error
		for i, c := range columns {
			if u.columns[i].filled && c.IsNull(row) {
				err = refused("a null, which the column does not allow")
			} else {
				appended, err = appendValue(appended, c, encoders[i], row)
			}
			if err != nil {
				err = engine.Errorf(engine.KindOf(err), opWrite, u.target.String(), "%w", err)
				left = append(left, dataset.RefusedRow{Row: int64(row), Column: u.fields[i].Name, Err: err})
				break
			}
		}
		if err != nil {
			continue
		}
		u.buffer = appended
		u.rows++
		if len(u.buffer) >= chunkBytes {
			if err := u.flush(ctx); err != nil {
				return err
			}
		}
	}
	if len(left) > 0 {
		return left
	}
	return nil
}

func (u *Unit) flush(ctx context.Context) error {
	n, err := u.to.Write(u.buffer)
	u.bytes += int64(n)
	u.buffer = u.buffer[:0]
	if err == nil {
		return nil
	}
	if _, copyErr := u.result(ctx); copyErr != nil {
		return copyErr
	}
	return engine.Errorf(engine.KindInternal, opWrite, u.target.String(), "the server ended the COPY too early")
}

// result waits for the end of the COPY.
func (u *Unit) result(ctx context.Context) (int64, error) {
	if u.copied == nil {
		return 0, engine.Errorf(engine.KindInternal, opWrite, u.target.String(), "the COPY has ended already")
	}
	r := <-u.copied
	u.copied = nil
	return r.rows, classify(ctx, opWrite, u.target.String(), r.err)
}

// Publish makes the rows visible, and keeps details, which is JSON, with them, once right says that the lease allows it. If another attempt was first, its
// commit is returned, and adopted is true. After an error of kind engine.KindUnavailable or engine.KindDeadline it is not known whether the
// unit is committed: the next Begin finds out.
func (u *Unit) Publish(ctx context.Context, details json.RawMessage, right func(context.Context) error) (commit Commit, adopted bool, err error) {
	t := u.target
	u.buffer = append(u.buffer, 0xff, 0xff)
	if err := u.flush(ctx); err != nil {
		return Commit{}, false, err
	}
	u.session.resting.Store(false)
	_ = u.to.Close() // never fails
	copied, err := u.result(ctx)
	if err != nil {
		return Commit{}, false, err
	}
	if copied != u.rows {
		return Commit{}, false, engine.Errorf(engine.KindInternal, opWrite, t.String(), "%d rows were sent, the server has copied %d", u.rows, copied)
	}
	failpoint.Hit(failpoint.TableCopied)
	won, err := u.record(ctx, details)
	if err != nil {
		return Commit{}, false, err
	}
	failpoint.Hit(failpoint.TableRecorded)
	if !won {
		if err := u.session.run(ctx, opWrite, "ROLLBACK"); err != nil {
			return Commit{}, false, err
		}
		found, err := u.look(ctx)
		if err == nil && found == nil {
			err = engine.Errorf(engine.KindUnavailable, opWrite, t.String(), "unit %d was another attempt's, and is gone again", u.unit)
		}
		if err != nil {
			return Commit{}, false, err
		}
		return *found, true, nil
	}
	if err := right(ctx); err != nil {
		return Commit{}, false, err
	}
	tag, err := u.session.Exec(ctx, "COMMIT")
	if err != nil {
		return Commit{}, false, classify(ctx, opWrite, t.String(), err)
	}
	if tag.String() != "COMMIT" {
		return Commit{}, false, engine.Errorf(engine.KindInternal, opWrite, t.String(), "the server answered COMMIT with %s", tag)
	}
	failpoint.Hit(failpoint.TableCommitted)
	return Commit{Epoch: u.epoch, Rows: u.rows, SizeBytes: u.bytes, Details: details}, false, nil
}

// record inserts the unit's row, unless another attempt has. It waits for one that is about to.
func (u *Unit) record(ctx context.Context, details json.RawMessage) (won bool, err error) {
	t, s := u.target, u.session
	var state string
	if _, err := s.row(ctx, opWrite, "SELECT state FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit = -1 FOR SHARE",
		[]any{string(t.job), t.table.sql()}, &state); err != nil {
		return false, err
	}
	if state != stateWriting {
		return false, t.fenced(state)
	}
	inserted, err := s.exec(ctx, opWrite, "INSERT INTO "+t.commits()+" VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, now()) ON CONFLICT DO NOTHING",
		string(t.job), t.table.sql(), int64(u.unit), stateCommitted, int64(u.epoch), u.rows, u.bytes, string(details)) //nolint:gosec // Epochs are small.
	return inserted == 1, err
}

// Close gives up what was not published. It may be called more than once.
func (u *Unit) Close() error {
	if u.cancel != nil {
		if u.copied != nil {
			u.cancel()
			_ = u.to.CloseWithError(errCopyEnded) // never fails
			<-u.copied
			u.copied = nil
		}
		u.cancel()
	}
	u.session.close()
	return nil
}
