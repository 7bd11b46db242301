package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// PinOptions say how an object lives on.
type PinOptions struct {
	// Name is the pin's name, unique in the cluster: 1 to 200 letters, digits, and ._:/@+-. Empty means the object's id.
	Name string
	// TTL is how long the pin lasts. Zero means until Unpin.
	TTL time.Duration
}

// Pin makes an object live on without its client, under a name by which Lookup finds it. Pinning again under the same name moves the end.
// It is a conflict if another object has the name.
func (c *Client) Pin(ctx context.Context, ref engine.ObjectRef, options PinOptions) error {
	if err := c.objects.check(ctx, "pin object", ref); err != nil {
		return err
	}
	request := &enginev1.PinObjectRequest{ObjectId: ref.ID[:], Name: options.Name}
	switch {
	case options.TTL < 0:
		return engine.Errorf(engine.KindInvalidArgument, "pin object", ref.String(), "a time to live of %v is negative", options.TTL)
	case options.TTL > 0:
		request.Ttl = durationpb.New(options.TTL)
	}
	_, err := c.objects.service.PinObject(ctx, request)
	return err
}

// Unpin ends a pin. An object that nobody else owns is deleted.
func (c *Client) Unpin(ctx context.Context, name string) error {
	_, err := c.objects.service.UnpinObject(ctx, &enginev1.UnpinObjectRequest{Name: name})
	return err
}

// Lookup returns the object that is pinned under a name. It is an error of kind engine.KindNotFound if there is none.
func (c *Client) Lookup(ctx context.Context, name string) (engine.ObjectRef, error) {
	response, err := c.objects.service.DescribeObjects(ctx, &enginev1.DescribeObjectsRequest{Names: []string{name}})
	if err != nil {
		return engine.ObjectRef{}, err
	}
	if len(response.GetObjects()) == 0 {
		return engine.ObjectRef{}, engine.Errorf(engine.KindNotFound, "look up object", name, "no object is pinned under this name")
	}
	id, err := objectID(response.GetObjects()[0].GetObjectId())
	if err != nil {
		return engine.ObjectRef{}, err
	}
	cluster, err := c.objects.cluster(ctx)
	return engine.ObjectRef{ID: id, Cluster: cluster}, err
}

// ObjectInfo returns what the cluster knows of an object. It is an error of kind engine.KindNotFound if that is nothing.
func (c *Client) ObjectInfo(ctx context.Context, ref engine.ObjectRef) (*enginev1.ObjectInfo, error) {
	if err := c.objects.check(ctx, "describe object", ref); err != nil {
		return nil, err
	}
	response, err := c.objects.service.DescribeObjects(ctx, &enginev1.DescribeObjectsRequest{ObjectIds: [][]byte{ref.ID[:]}})
	switch {
	case err != nil:
		return nil, err
	case len(response.GetObjects()) == 0:
		return nil, engine.Errorf(engine.KindNotFound, "describe object", ref.String(), "no such object")
	}
	return response.GetObjects()[0], nil
}

// ObjectFilter selects objects. The zero filter selects all.
type ObjectFilter struct {
	// OwnerKind and OwnerID select objects with such an owner. Empty means any.
	OwnerKind engine.OwnerKind
	OwnerID   string
	// Node selects objects with a copy on that node. Empty means any.
	Node engine.NodeID
}

// Objects returns up to limit objects, the largest first, and how many there are in all. A limit of 0 means 100.
func (c *Client) Objects(ctx context.Context, filter ObjectFilter, limit int) (*enginev1.ListObjectsResponse, error) {
	return c.objects.service.ListObjects(ctx, &enginev1.ListObjectsRequest{
		Limit:     int32(min(limit, 1<<30)), //nolint:gosec // Bounded.
		OwnerKind: string(filter.OwnerKind), OwnerId: filter.OwnerID, NodeId: string(filter.Node),
	})
}

// Hold makes the client's session an owner of objects, so that they live at least until Free or until the client is closed or lost.
func (c *Client) Hold(ctx context.Context, refs ...engine.ObjectRef) error {
	for _, ref := range refs {
		if err := c.objects.check(ctx, "hold object", ref); err != nil {
			return err
		}
	}
	if err := c.objects.session.ensure(ctx); err != nil {
		return err
	}
	_, err := c.objects.service.HoldObjects(ctx, &enginev1.HoldObjectsRequest{SessionId: c.objects.session.id(), ObjectIds: ids(refs)})
	return err
}

// Free ends what Hold and Put began: the session's references. An object that nobody else owns is deleted; tables that are open go on.
func (c *Client) Free(ctx context.Context, refs ...engine.ObjectRef) error {
	for _, ref := range refs {
		if err := c.objects.check(ctx, "free object", ref); err != nil {
			return err
		}
	}
	_, err := c.objects.service.ReleaseObjects(ctx, &enginev1.ReleaseObjectsRequest{SessionId: c.objects.session.id(), ObjectIds: ids(refs)})
	return err
}

// storageTimeout is the deadline of Checkpoint and Restore whose caller set none: as much as an upload of some GB may take.
const storageTimeout = 15 * time.Minute

// Checkpoint writes an object into a folder, which may be s3://bucket/prefix or an absolute path, as a file that outlives the cluster:
// an Arrow IPC stream that any Arrow library reads. It returns the file's URI when it is durable. A context without a deadline gets 15
// minutes.
func (c *Client) Checkpoint(ctx context.Context, ref engine.ObjectRef, folder string) (uri string, err error) {
	if err := c.objects.check(ctx, "checkpoint object", ref); err != nil {
		return "", err
	}
	ctx, cancel := atMost(ctx, storageTimeout)
	defer cancel()
	response, err := c.objects.service.CheckpointObject(ctx, &enginev1.CheckpointObjectRequest{ObjectId: ref.ID[:], Folder: folder})
	return response.GetUri(), err
}

// Restore makes an object of a checkpoint, of this cluster or another, under the id that it had. The client's session owns it. A context
// without a deadline gets 15 minutes.
func (c *Client) Restore(ctx context.Context, uri string) (engine.ObjectRef, error) {
	if err := c.objects.session.ensure(ctx); err != nil {
		return engine.ObjectRef{}, err
	}
	ctx, cancel := atMost(ctx, storageTimeout)
	defer cancel()
	response, err := c.objects.service.RestoreObject(ctx, &enginev1.RestoreObjectRequest{Uri: uri, SessionId: c.objects.session.id()})
	if err != nil {
		return engine.ObjectRef{}, err
	}
	id, err := objectID(response.GetObject().GetObjectId())
	return engine.ObjectRef{ID: id, Cluster: c.objects.clusterID()}, err
}

// ObjectStores returns what each node's store holds, in order of the nodes' ids.
func (c *Client) ObjectStores(ctx context.Context) ([]*enginev1.NodeObjectStore, error) {
	response, err := c.objects.service.GetObjectStoreUsage(ctx, &enginev1.GetObjectStoreUsageRequest{})
	return response.GetStores(), err
}

// atMost bounds a context that has no deadline.
func atMost(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// ids are the ids of references, as they travel.
func ids(refs []engine.ObjectRef) [][]byte {
	all := make([][]byte, len(refs))
	for i := range refs {
		all[i] = refs[i].ID[:]
	}
	return all
}

func objectID(wire []byte) (id engine.ObjectID, err error) {
	if len(wire) != len(id) {
		return id, engine.Errorf(engine.KindInternal, "read object id", "", "the head sent an id of %d bytes, expected %d", len(wire), len(id))
	}
	return engine.ObjectID(wire), nil
}
