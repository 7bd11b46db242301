// Package postgres reads and writes tables of Postgres.
//
// A Source reads a table or a query by COPY in binary, cut into splits by ranges of a column. A Target is a table that a job fills: each
// task copies its rows in one transaction, which also inserts a row into the table engine_commits beside it, so that a task whose reply
// was lost is not done twice.
//
// No URL holds a password: Database.WithPassword says who knows it, or else the process that connects finds it as every client of Postgres
// does, in PGPASSWORD, PGPASSFILE, ~/.pgpass, a service file, or a client certificate. No error of this package holds one.
//
// Errors say what they are about as "postgres://host:port/database" with the table: engine.KindUnavailable if the server went away or takes
// no connections, engine.KindDeadline if it gave no sign of life for too long, engine.KindNotFound for a database, table, or schema that
// is missing, engine.KindPermission and engine.KindUnauthenticated for what the server refuses, engine.KindData for values and columns that
// do not fit, and engine.KindInvalidArgument for a query that is none.
package postgres

import (
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/f708428e/engine"
)

// Scheme is what the path of an input begins with that lies in a Postgres database.
const Scheme = "postgres://"

// DefaultTimeout is how long a server may give no sign of life.
const DefaultTimeout = 10 * time.Minute

// Database is a database of a server, and how to reach it. It holds no secret.
type Database struct {
	url  string
	name string
	// password is asked for at each connection; nil leaves it to what pgx finds.
	password func() (string, error)
	// timeout bounds each wait for the server.
	timeout time.Duration
}

// ofTheNode are the options that have files of a node read, and sent to the server that the job names, by the variables that a node may have
// instead.
var ofTheNode = map[string]string{
	"passfile": "PGPASSFILE", "servicefile": "PGSERVICEFILE", "service": "PGSERVICE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
}

// ParseURL understands a URL postgres://user@host:port/database?option=value, with the options of libpq. One with a password is refused,
// without repeating it. A zero timeout means DefaultTimeout.
func ParseURL(text string, timeout time.Duration) (Database, error) {
	refuse := func(format string, args ...any) (Database, error) {
		return Database{}, engine.Errorf(engine.KindInvalidArgument, "", "url", format, args...)
	}
	// What the parser says of a bad URL repeats it, and it may hold a password.
	u, err := url.Parse(text)
	switch {
	case text == "":
		return refuse("required: postgres://user@host:port/database")
	case err != nil, u.Scheme != "postgres" && u.Scheme != "postgresql", u.Opaque != "", u.Fragment != "":
		return refuse("not a URL of a Postgres database: write postgres://user@host:port/database?sslmode=verify-full")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse("what follows the ? is not option=value&option=value")
	}
	password, _ := u.User.Password()
	for key, values := range query {
		if strings.EqualFold(key, "password") || strings.EqualFold(key, "sslpassword") {
			password = strings.Join(values, "") + "-"
		}
	}
	if password != "" {
		return Database{}, engine.Errorf(engine.KindInvalidArgument, "", "url", "it holds a password, which would be kept and shown with the job").
			WithHint("leave it out, and name a secret in the field password, or put it into ~/.pgpass, PGPASSFILE, or PGPASSWORD on the nodes that connect")
	}
	for key := range query {
		if variable := ofTheNode[strings.ToLower(key)]; variable != "" {
			return Database{}, engine.Errorf(engine.KindInvalidArgument, "", "url", "option %s names a file of whoever connects, which is not a job's to choose", key).
				WithHint("set %s on the nodes that connect", variable)
		}
	}
	host := u.Host
	if host == "" {
		if host = query.Get("host"); host != "" && query.Get("port") != "" {
			host = net.JoinHostPort(host, query.Get("port"))
		}
	}
	database := strings.TrimPrefix(u.Path, "/")
	if database == "" {
		database = query.Get("dbname")
	}
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return Database{url: text, name: Scheme + strings.ToLower(host) + "/" + database, timeout: timeout}, nil
}

// WithPassword returns the database with somebody who knows the password, and is asked for each connection. Its error is that of the connection.
func (d Database) WithPassword(password func() (string, error)) Database {
	d.password = password
	return d
}

// String names the database in messages, as "postgres://host:port/database".
func (d Database) String() string { return d.name }

// maxNameBytes is how long a name may be; Postgres cuts longer ones off without a word.
const maxNameBytes = 63

// TableName is the name of a table with its schema.
type TableName struct {
	// Schema and Table are as they are stored, without quotes.
	Schema, Table string
}

// ParseTable understands schema.table as SQL does: a name without double quotes is in lower case, and one within them as it stands. A table
// without a schema is in "public".
func ParseTable(text string) (TableName, error) {
	refuse := func(format string, args ...any) (TableName, error) {
		return TableName{}, engine.Errorf(engine.KindInvalidArgument, "", "table", format, args...)
	}
	var names []string
	for rest := text; ; {
		name, after, ok := cutName(rest)
		if !ok {
			return refuse("%q is not the name of a table: write schema.table, with double quotes around a name that has others than letters, digits, and _", text)
		}
		if len(name) > maxNameBytes {
			return refuse("the name %q has %d bytes, at most %d are allowed", name, len(name), maxNameBytes)
		}
		names = append(names, name)
		if after == "" {
			break
		}
		rest = after[1:]
	}
	switch len(names) {
	case 1:
		return TableName{"public", names[0]}, nil
	case 2:
		return TableName{names[0], names[1]}, nil
	default:
		return refuse("%q has %d names: write schema.table; the database stands in the URL", text, len(names))
	}
}

// cutName takes a name off the beginning of a text. What is left is empty or begins with a dot.
func cutName(text string) (name, rest string, ok bool) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", "", false
	}
	if quoted, isQuoted := strings.CutPrefix(text, `"`); isQuoted {
		var b strings.Builder
		for {
			part, after, found := strings.Cut(quoted, `"`)
			if !found {
				return "", "", false
			}
			b.WriteString(part)
			if !strings.HasPrefix(after, `"`) {
				return b.String(), after, b.Len() > 0 && (after == "" || after[0] == '.')
			}
			b.WriteByte('"')
			quoted = after[1:]
		}
	}
	name, _, _ = strings.Cut(text, ".")
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf
		if !letter && (i == 0 || r != '$' && (r < '0' || r > '9')) {
			return "", "", false
		}
	}
	return strings.ToLower(name), text[len(name):], name != ""
}

// String is how a job file names the table.
func (t TableName) String() string {
	plain := func(name string) string {
		if got, rest, ok := cutName(name); ok && rest == "" && got == name {
			return name
		}
		return quote(name)
	}
	return plain(t.Schema) + "." + plain(t.Table)
}

// sql is the table in a statement.
func (t TableName) sql() string { return pgx.Identifier{t.Schema, t.Table}.Sanitize() }

// quote is a name in a statement.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal is a text in a statement. Backslashes mean themselves, since every session has standard_conforming_strings.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
