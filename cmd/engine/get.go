package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/objectstore/table"
)

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show one thing of a cluster",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.getObjectCommand(), a.getTaskCommand())
	return cmd
}

func (a *app) getObjectCommand() *cobra.Command {
	var save string
	cmd := &cobra.Command{
		Use:   "object ID|NAME",
		Short: "Show an object, or write its table to a file",
		Long: `Object shows what the cluster knows of an object, which is named by its id or by the name of a pin. With --save it writes the object's
table instead, as an Arrow IPC stream, which any Arrow library reads (pyarrow.ipc.open_stream).`,
		Example: `  engine get object winners -o yaml
  engine get object 3f2a9c7be1d04486a5c0f7e2b9d81c34 --save winners.arrows`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withObject(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, ref engine.ObjectRef) error {
				if save != "" {
					return a.saveObject(ctx, c, ref, save)
				}
				info, err := c.ObjectInfo(ctx, ref)
				if err != nil {
					return err
				}
				view := viewObject(info)
				return a.print(view, func(w io.Writer) error { return a.describeObject(w, view) })
			})
		},
	}
	cmd.Flags().StringVar(&save, "save", "", `write the object's Arrow IPC stream to this `+"`FILE`"+`; "-" is standard output`)
	return cmd
}

// withObject runs f with the object of an id, a reference, or a pin's name.
func (a *app) withObject(ctx context.Context, name string, f func(context.Context, *client.Client, engine.ObjectRef) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all calls have returned
	ref, err := findObject(ctx, c, name)
	if err != nil {
		return err
	}
	return objectError(f(ctx, c, ref))
}

// objectError gives an object that is lost, and a store that is out of reach, another exit code than a head that is.
func objectError(err error) error {
	var e *engine.Error
	if errors.As(err, &e) && e.Kind == engine.KindUnavailable && e.Op != "connect" {
		return &exitError{code: exitFailed, err: err}
	}
	return err
}

func findObject(ctx context.Context, c *client.Client, name string) (engine.ObjectRef, error) {
	if ref, err := engine.ParseObjectRef(name); err == nil {
		return ref, nil
	}
	if name == "" {
		return engine.ObjectRef{}, usagef("the object's name is empty")
	}
	ref, err := c.Lookup(ctx, name)
	if engine.KindOf(err) == engine.KindNotFound {
		return ref, engine.Errorf(engine.KindNotFound, "get object", name, "this is neither an object's id nor the name of a pin").
			WithHint("`engine list objects` shows the objects")
	}
	return ref, err
}

func (a *app) describeObject(w io.Writer, v objectView) error {
	crc := ""
	if v.CRC32C != nil {
		crc = fmt.Sprintf("%08x", *v.CRC32C)
	}
	var owners, holders []string
	for _, o := range v.Owners {
		text := o.Owner
		if o.ExpireTime != nil {
			text += " until " + o.ExpireTime.Format("2006-01-02 15:04:05Z")
		}
		owners = append(owners, text)
	}
	for _, h := range v.Holders {
		text := h.NodeID + " " + h.State
		if h.Primary {
			text += ", primary"
		}
		if h.Pins > 0 {
			text += ", " + plural(h.Pins, "pin")
		}
		if h.Flight != "" {
			text += ", " + flightURI(h.Flight, !a.tls.isZero())
		}
		if h.Spilled != "" {
			text += ", " + h.Spilled
		}
		holders = append(holders, text)
	}
	return fields(w,
		"object", v.ObjectID,
		"state", v.State,
		"size", fmt.Sprintf("%s (%s bytes)", engine.FormatSize(v.SizeBytes), count(v.SizeBytes)),
		"rows", fmt.Sprintf("%s in %s", count(v.Rows), plural(v.Batches, "record batch")),
		"created", a.whenAgo(v.CreateTime),
		"accessed", a.whenAgo(v.AccessTime),
		"owners", strings.Join(owners, "\n"),
		"holders", strings.Join(holders, "\n"),
		"pins", count(v.Pins),
		"domain", v.Domain,
		"checkpoint", v.Checkpoint,
		"crc32c", crc,
	)
}

// saveObject writes an object's stream to a file, which appears whole or not at all, or to standard output.
func (a *app) saveObject(ctx context.Context, c *client.Client, ref engine.ObjectRef, path string) (err error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "write object", "", "%w", err)
	}
	got, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer got.Release()
	encoding, err := table.Encode(got.Schema(), got.Records()...)
	if err != nil {
		return err
	}
	defer encoding.Release()
	if path == "-" {
		return engine.WrapError("write object", "standard output", writePieces(a.stdout, encoding))
	}
	// Under its own name the file would be there half written, and the mode of os.CreateTemp is not what the user's umask says.
	partial := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+engine.NewObjectID().String())
	file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // The user's umask decides.
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "write object", "", "%w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(partial) // the error is told
		}
	}()
	err = writePieces(file, encoding)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "write object", path, "%w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "write object", "", "%w", err)
	}
	a.notef("%s: %s, %s", path, plural(got.Rows(), "row"), engine.FormatSize(encoding.SizeBytes()))
	return nil
}

// writePieces writes an encoded table without putting it together first.
func writePieces(w io.Writer, encoding *table.Encoding) error {
	const gathered = 256 << 10 // Small pieces are written together, large ones as they are.
	b := bufio.NewWriterSize(w, gathered)
	zeros := make([]byte, 4096)
	for _, piece := range encoding.Pieces() {
		if piece.Data != nil {
			if _, err := b.Write(piece.Data); err != nil {
				return err
			}
			continue
		}
		for left := piece.Zeros; left > 0; left -= len(zeros) {
			if _, err := b.Write(zeros[:min(left, len(zeros))]); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}
