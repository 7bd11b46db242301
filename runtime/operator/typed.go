package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/f708428e/engine"
)

// Typed makes an operator of a function whose parameters are JSON: an object with the fields of P, or whatever else P is. Parameters
// that were not given leave P zero. Fields that P does not have are refused by name, and so is anything behind the value: errors of
// kind engine.KindInvalidArgument. Each call has a P of its own.
func Typed[P any](f func(ctx context.Context, params P, args []*Table) ([]Output, error)) Func {
	return func(ctx context.Context, text []byte, args []*Table) ([]Output, error) {
		var params P
		if err := decodeParams(text, &params); err != nil {
			return nil, err
		}
		return f(ctx, params, args)
	}
}

func decodeParams(text []byte, params any) error {
	const op = "read parameters"
	if len(text) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(params)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return engine.Errorf(engine.KindInvalidArgument, op, wrong.Field, "found %s, expected %s", wrong.Value, wrong.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return engine.Errorf(engine.KindInvalidArgument, op, "", "the JSON ends too early")
	case err != nil:
		return engine.Errorf(engine.KindInvalidArgument, op, "", "%w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return engine.Errorf(engine.KindInvalidArgument, op, "", "there is something behind the JSON value, at byte %d", decoder.InputOffset())
	}
	return nil
}
