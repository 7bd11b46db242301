package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/f708428e/engine/blob"
)

const (
	// connectTimeout is for a URL that sets no connect_timeout.
	connectTimeout = 10 * time.Second
	// cancelTimeout is how long the server may take to end a statement that is not wanted any more, and to hear a goodbye.
	cancelTimeout = 3 * time.Second
)

// session is one connection. It is not safe for concurrent use.
type session struct {
	*pgx.Conn
	// place is what its errors are about.
	place string
	// resting says that the server waits for us, and need not say anything.
	resting *atomic.Bool
}

// connect opens a session; whoever looks at the server's sessions sees it under the name application.
func (d Database) connect(ctx context.Context, op, place, application string) (*session, error) {
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return nil, classify(ctx, op, place, err)
	}
	if d.password != nil {
		if config.Password, err = d.password(); err != nil {
			return nil, classify(ctx, op, place, err)
		}
	}
	if !strings.Contains(d.url, "connect_timeout") {
		config.ConnectTimeout = connectTimeout
	}
	config.RuntimeParams["application_name"] = application
	config.RuntimeParams["client_encoding"] = "UTF8"
	// Poolers cannot tell whose prepared statements are whose.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	resting := new(atomic.Bool)
	// A peer that is gone without a word is noticed within half a minute, also while the server thinks.
	dialer := net.Dialer{Control: blob.RefuseMetadata, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &patientConn{Conn: conn, patience: d.timeout, resting: resting}, nil
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, classify(ctx, op, place, err)
	}
	s := &session{Conn: conn, place: place, resting: resting}
	// So is a client that is gone, where the server's version knows how.
	if err := s.run(ctx, op, "SELECT set_config(name, value, false) FROM (VALUES ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), "+
		"('tcp_keepalives_count', '3'), ('client_connection_check_interval', '10s'), ('standard_conforming_strings', 'on')) AS wanted (name, value) "+
		"WHERE current_setting(name, true) IS NOT NULL"); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// run executes statements that give nothing back.
func (s *session) run(ctx context.Context, op string, statements ...string) error {
	_, err := s.PgConn().Exec(ctx, strings.Join(statements, "; ")).ReadAll()
	return classify(ctx, op, s.place, err)
}

// exec executes a statement and returns how many rows it touched.
func (s *session) exec(ctx context.Context, op, statement string, args ...any) (int64, error) {
	tag, err := s.Exec(ctx, statement, args...)
	return tag.RowsAffected(), classify(ctx, op, s.place, err)
}

// row reads the one row of a query. It reports false if there is none.
func (s *session) row(ctx context.Context, op, query string, args []any, into ...any) (bool, error) {
	rows, err := s.Query(ctx, query, args...)
	if err != nil {
		return false, classify(ctx, op, s.place, err)
	}
	defer rows.Close()
	if !rows.Next() {
		return false, classify(ctx, op, s.place, rows.Err())
	}
	if err := rows.Scan(into...); err != nil {
		return false, classify(ctx, op, s.place, err)
	}
	rows.Close()
	return true, classify(ctx, op, s.place, rows.Err())
}

// texts reads the rows of a query of one column of texts.
func (s *session) texts(ctx context.Context, op, query string, args ...any) ([]string, error) {
	rows, err := s.Query(ctx, query, args...)
	if err != nil {
		return nil, classify(ctx, op, s.place, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return found, classify(ctx, op, s.place, err)
}

// close ends the session, and what it has not committed.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	_ = s.Close(ctx) // The server ends what it does not hear of.
}

// patientConn bounds every wait for the other side, besides the deadlines that its user sets.
type patientConn struct {
	net.Conn
	patience time.Duration
	// resting is the session's: while it is set, a read has as long as it takes. Keepalives notice a peer that is gone.
	resting *atomic.Bool

	mu          sync.Mutex
	read, write time.Time // the user's, zero if there is none
	sent        time.Time // when something was sent last
}

// sooner is the earlier of a deadline, which may be none, and the end of patience.
func (c *patientConn) sooner(deadline time.Time) time.Time {
	end := time.Now().Add(c.patience)
	if !deadline.IsZero() && deadline.Before(end) {
		return deadline
	}
	return end
}

// Read implements net.Conn. What the other side has to answer may have been sent while it waits.
func (c *patientConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		err := c.Conn.SetReadDeadline(c.sooner(c.read))
		began := time.Now()
		c.mu.Unlock()
		if err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.goesOn(began) {
			return n, err
		}
	}
}

// goesOn tells whether a read that has waited in vain since a time is not to end yet.
func (c *patientConn) goesOn(began time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read.IsZero() && !time.Now().Before(c.read) {
		return false // Its user wants no more.
	}
	return c.resting.Load() || c.sent.After(began)
}

// Write implements net.Conn.
func (c *patientConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	err := c.Conn.SetWriteDeadline(c.sooner(c.write))
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	c.sent = time.Now()
	c.mu.Unlock()
	return n, err
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = t, t
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *patientConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}
