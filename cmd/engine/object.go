package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) objectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "object",
		Short: "Put, pin, delete, checkpoint, and restore objects",
		Long: `The object commands work on the object stores of the cluster whose head is at --address. An object is named by its id or by the name of
a pin. "engine list objects" lists objects, "engine get object" shows or saves one.`,
		Args: cobra.ArbitraryArgs,
		RunE: a.group,
	}
	cmd.AddCommand(a.objectPutCommand(), a.objectPinCommand(), a.objectUnpinCommand(), a.objectDeleteCommand(), a.objectCheckpointCommand(),
		a.objectRestoreCommand())
	return cmd
}

// pinFlags say how an object outlives the command that made it.
type pinFlags struct {
	name string
	ttl  time.Duration
}

func (f *pinFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", "", "the pin's `NAME`, unique in the cluster; default: the object's id")
	cmd.Flags().DurationVar(&f.ttl, "ttl", 0, "how long the pin lasts, a `DURATION` such as 24h; default: until it is unpinned")
}

func (f *pinFlags) check() error {
	if f.ttl < 0 {
		return usagef("--ttl %v: expected a duration that is not negative", f.ttl)
	}
	return nil
}

// pinnedView is what the commands print that make an object or let it live on.
type pinnedView struct {
	ObjectID  string `json:"object_id"`
	ClusterID string `json:"cluster_id"`
	Name      string `json:"name"`
}

// pin pins an object and prints its id.
func (a *app) pin(ctx context.Context, c *client.Client, ref engine.ObjectRef, f pinFlags) error {
	if err := c.Pin(ctx, ref, client.PinOptions{Name: f.name, TTL: f.ttl}); err != nil {
		return err
	}
	view := pinnedView{ObjectID: ref.ID.String(), ClusterID: ref.Cluster, Name: f.name}
	if view.Name == "" {
		view.Name = view.ObjectID
	}
	return a.print(view, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, view.ObjectID)
		return engine.WrapError("print", "", err)
	})
}

func (a *app) objectPinCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use:   "pin ID|NAME",
		Short: "Make an object live on under a name, whoever made it",
		Long:  "Pin keeps an object alive under --name, for --ttl or until it is unpinned. Pinning again under the same name moves the end.",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withObject(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, ref engine.ObjectRef) error {
				return a.pin(ctx, c, ref, f)
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) objectUnpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin NAME",
		Short: "End a pin; an object that nobody else owns is deleted",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			return c.Unpin(cmd.Context(), args[0])
		},
	}
}

func (a *app) objectDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID|NAME...",
		Short: "Delete objects and all their copies, whoever owns them",
		Long:  "Delete deletes objects for everybody. Readers that have one open go on; checkpoints stay.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("expected at least one argument: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			refs := make([]engine.ObjectRef, len(args))
			for i, name := range args {
				if refs[i], err = findObject(ctx, c, name); err != nil {
					return err
				}
			}
			// An id that is mistyped should not look like one that was deleted.
			for _, ref := range refs {
				if _, err := c.ObjectInfo(ctx, ref); err != nil {
					return err
				}
			}
			return c.Delete(ctx, refs...)
		},
	}
}

func (a *app) objectCheckpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint ID|NAME FOLDER",
		Short: "Write an object durably to a folder or S3, and print where",
		Long: `Checkpoint writes an object to FOLDER, which may be s3://bucket/prefix, as a file that outlives the cluster, and prints the file's URI when
it is durable. Any Arrow library reads the file (pyarrow.ipc.open_stream); "engine object restore" makes an object of it again, in this
cluster or another. The node that has the object writes the file, so it must reach the folder.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder, err := storagePlace(args[1])
			if err != nil {
				return err
			}
			return a.withObject(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, ref engine.ObjectRef) error {
				uri, err := c.Checkpoint(ctx, ref, folder)
				if err != nil {
					return err
				}
				view := struct {
					ObjectID string `json:"object_id"`
					URI      string `json:"uri"`
				}{ref.ID.String(), uri}
				return a.print(view, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, uri)
					return engine.WrapError("print", "", err)
				})
			})
		},
	}
}

func (a *app) objectRestoreCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make an object of a checkpoint, pin it, and print its id",
		Long: `Restore makes an object of a checkpoint FILE, which may be an s3:// or file:// URI, under the id that it had, in whichever cluster that was.
The object is pinned, so that it outlives the command.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			uri, err := storagePlace(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			ref, err := c.Restore(cmd.Context(), uri)
			if err == nil {
				err = a.pin(cmd.Context(), c, ref, f)
			}
			return objectError(err)
		},
	}
	f.register(cmd)
	return cmd
}

// storagePlace makes a path absolute, since a node has another working folder. A URI stays as it is.
func storagePlace(place string) (string, error) {
	if place == "" {
		return "", usagef("the folder's or file's name is empty")
	}
	if strings.Contains(place, "://") {
		return place, nil
	}
	absolute, err := filepath.Abs(place)
	return absolute, usage(err)
}
