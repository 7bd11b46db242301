package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/table"
)

func (a *app) objectPutCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use:   "put FILE",
		Short: "Put the table of an Arrow file into the object store, pin it, and print its id",
		Long: `Put reads an Arrow IPC file or stream (Feather 2 and checkpoints included), puts its table into the object store, and pins it, so that it outlives the
command. "-" reads standard input.`,
		Example: `  engine object put winners.arrow --name winners --ttl 24h
  engine get object winners --save - | engine object put -`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			read, err := a.readTable(args[0])
			if err != nil {
				return err
			}
			defer read.Release()
			return a.putTable(cmd.Context(), read, f)
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) putTable(ctx context.Context, t *client.Table, f pinFlags) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all calls have returned
	ref, err := c.PutTable(ctx, t.Schema(), t.Records()...)
	if err == nil {
		err = a.pin(ctx, c, ref, f)
	}
	return objectError(err)
}

// arrowMagic begins an Arrow IPC file, padded to 8 bytes, and ends it without padding; endOfStream ends a stream.
const (
	arrowMagic  = "ARROW1\x00\x00"
	endOfStream = "\xff\xff\xff\xff\x00\x00\x00\x00"
)

// arrowStream finds the stream in what Arrow knows as a file, which is a stream between a magic and an index that is not needed to read
// all, and in a checkpoint, which is a stream before a trailer. Of anything else it returns all. Some writers leave the end of a
// file's stream out; unended says that the stream may be such a one, and that there is room for the end after it.
func arrowStream(data []byte) (stream []byte, unended bool) {
	if at := len(data) - spill.TrailerBytes; at >= 0 {
		if trailer, err := spill.ParseTrailer(data[at:]); err == nil && trailer.SizeBytes == int64(at) {
			return data[:at], false
		}
	}
	stream, isFile := bytes.CutPrefix(data, []byte(arrowMagic))
	if !isFile {
		return data, false
	}
	const lengthBytes = 4 // of the index's length, which stands after it
	rest, ok := bytes.CutSuffix(stream, []byte(strings.TrimRight(arrowMagic, "\x00")))
	if !ok || len(rest) < lengthBytes {
		return stream, false
	}
	at := len(rest) - lengthBytes
	index := int64(binary.LittleEndian.Uint32(rest[at:]))
	if index > int64(at) {
		return stream, false
	}
	return rest[:int64(at)-index], true
}

// readTable reads an Arrow IPC file or stream. What cannot be read is the user's mistake.
func (a *app) readTable(path string) (*client.Table, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(a.stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, usage(engine.Errorf(engine.KindNotFound, "read Arrow file", "", "%w", err))
	}
	stream, unended := arrowStream(data)
	if len(stream) == 0 {
		return nil, usage(engine.Errorf(engine.KindData, "read Arrow file", path, "the file is empty"))
	}
	read, err := table.Open(stream, table.Options{})
	if err != nil && unended {
		var endErr error
		if read, endErr = table.Open(append(stream, endOfStream...), table.Options{}); endErr == nil {
			return read, nil
		}
	}
	if err != nil {
		return nil, usage(engine.WrapError("read Arrow file", path, err))
	}
	return read, nil
}
