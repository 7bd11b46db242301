package jobs

import (
	"context"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// opening opens the object stores before the first use of any object: an embedded cluster opens its own when a job needs it.
type opening struct {
	Objects
	open func(context.Context) error
}

// Describe implements Objects, once the stores are open.
func (o opening) Describe(ctx context.Context, ids []engine.ObjectID, names []string) ([]*enginev1.ObjectInfo, error) {
	if err := o.open(ctx); err != nil {
		return nil, err
	}
	return o.Objects.Describe(ctx, ids, names)
}

// Restore implements Objects, once the stores are open.
func (o opening) Restore(ctx context.Context, uri, domain string, owner engine.ObjectOwner) (*enginev1.ObjectInfo, error) {
	if err := o.open(ctx); err != nil {
		return nil, err
	}
	return o.Objects.Restore(ctx, uri, domain, owner)
}

// Hold implements Objects, once the stores are open.
func (o opening) Hold(ctx context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	if err := o.open(ctx); err != nil {
		return err
	}
	return o.Objects.Hold(ctx, ids, owner)
}
