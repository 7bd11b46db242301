package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/objectstore/table"
)

func (a *app) objectPutCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use:   "put FILE",
		Short: "Put the table of an Arrow file into the object store, pin it, and print its id",
		Long: `Put reads an Arrow IPC file or stream (Feather 2 included), puts its table into the object store, and pins it, so that it outlives the
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
	if err != nil {
		return err
	}
	return a.pin(ctx, c, ref, f)
}

// arrowMagic begins an Arrow IPC file, padded to 8 bytes, and ends it without padding.
var arrowMagic = []byte("ARROW1\x00\x00")

// arrowStream is the stream within an Arrow IPC file: what lies between the magic at its beginning and the index at its end, which is not
// needed to read all. A stream is returned as it is.
func arrowStream(data []byte) []byte {
	stream, isFile := bytes.CutPrefix(data, arrowMagic)
	if !isFile {
		return data
	}
	rest, ok := bytes.CutSuffix(stream, bytes.TrimRight(arrowMagic, "\x00"))
	if !ok || len(rest) < 4 {
		return stream
	}
	index := int64(binary.LittleEndian.Uint32(rest[len(rest)-4:]))
	if rest = rest[:len(rest)-4]; index > int64(len(rest)) {
		return stream
	}
	// Some writers leave the end of the stream out. It fits in the place of the index and its length.
	return append(rest[:int64(len(rest))-index], "\xff\xff\xff\xff\x00\x00\x00\x00"...)
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
	stream := arrowStream(data)
	if len(stream) == 0 {
		return nil, usage(engine.Errorf(engine.KindData, "read Arrow file", path, "the file is empty"))
	}
	read, err := table.Open(stream, table.Options{})
	if err != nil {
		return nil, usage(engine.WrapError("read Arrow file", path, err))
	}
	return read, nil
}
