// Package pgtest gives tests a real Postgres server with pgvector, which they may kill, and a proxy in front of it that loses what they
// wish.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/f708428e/engine/internal/testenv"
)

// user owns the server; everybody on this machine may be it.
const user = "engine"

const startTimeout = 30 * time.Second

// Server is a Postgres server on a free port of this machine. It is safe for concurrent use, except for Kill and Restart.
type Server struct {
	// Address is its host and port, which stay the same when it is restarted.
	Address string

	programs, folder string
	made             atomic.Int64
	process          *os.Process
	exited           <-chan struct{}
}

// Start starts a server. It ends with the test. A server that is not installed skips the test, or fails it in CI.
func Start(t testing.TB) *Server {
	t.Helper()
	programs := testenv.Postgres(t)
	// Not the test's own folder: that is closed to the user that the server runs as, and too long for a socket.
	root, err := os.MkdirTemp("", "pgtest-") //nolint:usetesting // See above.
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{programs: programs, folder: filepath.Join(root, "data")}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	if err := s.install(root); err != nil {
		t.Fatal(err)
	}
	initialize := s.command("initdb", "-D", s.folder, "-U", user, "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := initialize.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	// The port is free now and may be taken a moment later by somebody else.
	for try := range 5 {
		s.Address = freeAddress(t)
		err := s.run()
		if err == nil {
			break
		}
		if try == 4 {
			t.Fatalf("start postgres: %v", err)
		}
	}
	return s
}

// install makes the server's folder. Postgres does not run as root: there it runs as nobody, who needs a copy of what lies in root's home.
func (s *Server) install(root string) error {
	if err := os.Mkdir(s.folder, 0o700); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := os.Chmod(root, 0o755); err != nil { //nolint:gosec // Others are to see it.
		return err
	}
	if err := os.Chown(s.folder, nobody, nobody); err != nil {
		return err
	}
	installation := filepath.Join(s.programs, "..", "..", "..")
	if os.Getenv("ENGINE_POSTGRES") != "" {
		return nil // It need not lie so; who gives it makes it readable.
	}
	copied := filepath.Join(root, "installed")
	relative, err := filepath.Rel(installation, s.programs)
	if err != nil {
		return err
	}
	s.programs = filepath.Join(copied, relative)
	return os.CopyFS(copied, only{os.DirFS(installation)})
}

// only leaves out what a server does not need.
type only struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (o only) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, name)
	if filepath.Base(name) != "bin" {
		return entries, err
	}
	var kept []fs.DirEntry
	for _, e := range entries {
		if e.Name() == "postgres" || e.Name() == "initdb" {
			kept = append(kept, e)
		}
	}
	return kept, err
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	command := exec.Command(filepath.Join(s.programs, program), args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.folder, "LC_ALL=C", "TZ=UTC"}
	command.Dir = "/"
	unroot(command)
	return command
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// run starts the server and returns when it takes connections, or has ended.
func (s *Server) run() error {
	_, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	// Nothing is to outlast the machine, so nothing is synced.
	command := s.command("postgres", "-D", s.folder, "-h", "127.0.0.1", "-p", port, "-k", "",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "autovacuum=off")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if s.exited, err = start(command); err != nil {
		return err
	}
	s.process = command.Process
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended: %s", strings.TrimSpace(output.String()))
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-again.C:
		}
	}
}

// Kill ends the server and all its sessions as a crash does.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	// Its children notice that their parent is gone only when they wait, so it ends them first: SIGQUIT does so without any tidying up.
	_ = s.process.Signal(syscall.SIGQUIT) // it may have ended
	<-s.exited
	s.process = nil
}

// Restart starts a server again that was killed, on the same address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatalf("restart postgres: %v", err)
	}
}

// URL is how a job names a database of the server.
func (s *Server) URL(database string) string { return URL(s.Address, database) }

// URL is how a job names a database behind an address, such as a Proxy's.
func URL(address, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Database makes an empty database, with pgvector if vector is set, and returns its name.
func (s *Server) Database(t testing.TB, vector bool) string {
	t.Helper()
	name := fmt.Sprintf("database_%d", s.made.Add(1))
	s.Exec(t, "postgres", "CREATE DATABASE "+name)
	if vector {
		s.Exec(t, name, "CREATE EXTENSION vector")
	}
	return name
}

// Exec runs statements, without parameters, in a database.
func (s *Server) Exec(t testing.TB, database, sql string) {
	t.Helper()
	conn := s.Connect(t, database)
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err := errors.Join(err, conn.Close(context.WithoutCancel(t.Context()))); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Guard makes a user that owns a database and has to give a password.
func (s *Server) Guard(t testing.TB, database, user, password string) {
	t.Helper()
	s.Exec(t, "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'; ALTER DATABASE %s OWNER TO %[1]s", user, password, database))
	s.Exec(t, database, "ALTER SCHEMA public OWNER TO "+user)
	rules := filepath.Join(s.folder, "pg_hba.conf")
	before, err := os.ReadFile(rules)
	if err == nil {
		err = os.WriteFile(rules, append([]byte("host all "+user+" 127.0.0.1/32 scram-sha-256\n"), before...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "postgres", "SELECT pg_reload_conf()")
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password+"-wrong"), Host: s.Address, Path: "/" + database, RawQuery: "sslmode=disable"}
	for again := time.NewTicker(10 * time.Millisecond); ; <-again.C {
		conn, err := pgx.Connect(t.Context(), u.String())
		if err != nil {
			again.Stop()
			return // It has read the rules.
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// GuardedURL is how a job names a database for a user that Guard has made, without the password.
func (s *Server) GuardedURL(database, user string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: s.Address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Texts runs a query and returns its rows, all values as texts with a bar between them; a null is "null".
func (s *Server) Texts(t testing.TB, database, query string) []string {
	t.Helper()
	conn := s.Connect(t, database)
	results, err := conn.PgConn().Exec(t.Context(), query).ReadAll()
	if err := errors.Join(err, conn.Close(context.WithoutCancel(t.Context()))); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	var rows []string
	for _, row := range results[len(results)-1].Rows {
		var values []string
		for _, v := range row {
			if v == nil {
				v = []byte("null")
			}
			values = append(values, string(v))
		}
		rows = append(rows, strings.Join(values, "|"))
	}
	return rows
}

// Connect opens a connection to a database, which the caller closes.
func (s *Server) Connect(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
