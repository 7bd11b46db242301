package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/f708428e/engine"
)

// maxDetail bounds what is repeated of what the server says.
const maxDetail = 300

// classify gives an error of pgx its kind, operation, and place. What pgx itself says of a connection is left out beyond its cause. An
// *engine.Error stays as it is.
func classify(ctx context.Context, op, place string, err error) error {
	if err == nil {
		return nil
	}
	var ours *engine.Error
	var connecting *pgconn.ConnectError
	switch {
	case errors.As(err, &ours) && errors.As(err, &connecting):
		return engine.WrapError(op, place, ours) // What is around it repeats the URL.
	case errors.As(err, &ours):
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return engine.WrapError(op, place, cause)
	}
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return fromServer(op, place, said)
	}
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		// It repeats the URL, and what a service file adds to it.
		return engine.Errorf(engine.KindInvalidArgument, op, place, "the URL, a PG… variable, or a service file has an option that cannot be used").
			WithHint("the options are libpq's, such as sslmode=verify-full&sslrootcert=PATH")
	}
	var network *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return engine.Errorf(engine.KindDeadline, op, place, "the server gave no sign of life for too long").
			WithHint("a statement that takes longer needs a longer timeout in the job file")
	case errors.As(err, &network):
		return engine.Errorf(engine.KindUnavailable, op, place, "%s: %s", network.Op, network.Err)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return engine.Errorf(engine.KindUnavailable, op, place, "cannot connect: %s", clip(connect.Unwrap().Error()))
	}
	return engine.Errorf(engine.KindUnavailable, op, place, "the connection broke: %s", clip(err.Error()))
}

// fromServer turns an error of the server into one of ours.
func fromServer(op, place string, said *pgconn.PgError) error {
	text := said.Message
	if said.Detail != "" {
		text += ": " + said.Detail
	}
	if said.Where != "" && strings.HasPrefix(said.Code, "22") {
		text += ": " + said.Where
	}
	e := engine.Errorf(kindOf(said.Code), op, place, "%s (SQLSTATE %s)", clip(text), said.Code)
	switch {
	case strings.HasPrefix(said.Code, "28"):
		return e.WithHint("name the password as a secret in the field password, or put it into ~/.pgpass, PGPASSFILE, or PGPASSWORD on the node that connects")
	case said.Code == "53300":
		return e.WithHint("every task that runs has a connection: let fewer run, or raise max_connections")
	case said.Code == "25006":
		return e.WithHint("a source only reads: its query runs in a read-only transaction")
	case said.Hint != "":
		return e.WithHint("%s", strings.TrimSuffix(clip(said.Hint), "."))
	}
	return e
}

// kindOf is the kind of an SQLSTATE.
func kindOf(code string) engine.Kind {
	switch code {
	case "57014", "25P04": // query_canceled, which statement_timeout causes too, and transaction_timeout
		return engine.KindDeadline
	case "53100", "53200", "53300":
		return engine.KindExhausted
	case "40001", "40P01", "55P03", "55006", "57P01", "57P02", "57P03", "57P05", "25P03":
		return engine.KindUnavailable
	case "3D000", "3F000", "42P01", "42704", "42883":
		return engine.KindNotFound
	case "42501":
		return engine.KindPermission
	case "42703", "42804", "428C9":
		return engine.KindData
	case "XX001", "XX002":
		return engine.KindCorrupt
	}
	switch code[:min(2, len(code))] {
	case "08":
		return engine.KindUnavailable
	case "53", "54":
		return engine.KindExhausted
	case "28":
		return engine.KindUnauthenticated
	case "09", "22", "23", "27", "2F", "38", "39", "44", "P0": // Triggers and functions refuse rows, too.
		return engine.KindData
	case "0A", "25", "26", "42":
		return engine.KindInvalidArgument
	default:
		return engine.KindInternal
	}
}

func clip(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxDetail {
		return strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}
