package s3

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

var (
	_ blob.Prober  = (*Bucket)(nil)
	_ blob.Sweeper = (*Bucket)(nil)
)

// ProbeIfAbsent implements blob.Prober: it tries If-None-Match on a put and on the end of a multipart upload.
func (b *Bucket) ProbeIfAbsent(ctx context.Context, key string) (err error) {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	content := bytes.NewReader([]byte{0})
	crc := crc32.Checksum([]byte{0}, castagnoli)
	options := blob.PutOptions{IfAbsent: true}
	if _, err := b.putWhole(ctx, key, content, content.Size(), crc, options); err != nil {
		return hinted(err)
	}
	defer func() { err = errors.Join(err, b.Delete(context.WithoutCancel(ctx), key)) }()
	if err := b.wantRefused(key, "a PUT", func() error {
		_, err := b.putWhole(ctx, key, content, content.Size(), crc, options)
		return err
	}); err != nil {
		return err
	}
	u, err := b.begin(ctx, key, options)
	if err != nil {
		return err
	}
	done, err := u.send(ctx, 1, content, 0, content.Size(), crc)
	if err != nil {
		return u.abort(ctx, err)
	}
	err = b.wantRefused(key, "the end of a multipart upload", func() error {
		_, err := u.complete(ctx, []part{done}, true)
		return err
	})
	_, failed := u.abortOnce(context.WithoutCancel(ctx))
	return errors.Join(err, failed)
}

// wantRefused makes sure that a put of a key that exists is refused.
func (b *Bucket) wantRefused(key, what string, put func() error) error {
	err := put()
	switch {
	case err == nil:
		return engine.Errorf(engine.KindInvalidArgument, "probe", b.id(key), "%s ignores If-None-Match on %s, so that rows could be replaced or appear twice", b.server(), what).
			WithHint("use a store with conditional writes, or a folder of a file system")
	case engine.KindOf(err) == engine.KindConflict:
		return nil
	}
	return hinted(err)
}

// hinted says what the store lacks, if it refuses conditional writes altogether.
func hinted(err error) error {
	var known *engine.Error
	if errors.As(err, &known) && known.Kind == engine.KindInvalidArgument && known.Hint == "" {
		return known.WithHint("the store must know If-None-Match on PUT and on the end of multipart uploads")
	}
	return err
}

// abortsAtOnce bounds how many uploads are aborted at a time. Each is asked for at least twice, with a pause.
const abortsAtOnce = 32

// Sweep implements blob.Sweeper: it aborts multipart uploads. Some servers list those of a whole key alone; there a lifecycle rule must
// do it.
func (b *Bucket) Sweep(ctx context.Context, prefix string, ours func(key string) bool) error {
	in := &sdk.ListMultipartUploadsInput{Bucket: &b.name, Prefix: b.key(prefix)}
	for {
		var page *sdk.ListMultipartUploadsOutput
		err := b.try(ctx, "list uploads", prefix, func(ctx context.Context, _ bool) (err error) {
			ctx, cancel := b.within(ctx, 0)
			defer cancel()
			page, err = b.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(abortsAtOnce)
		for _, found := range page.Uploads {
			key, ok := strings.CutPrefix(aws.ToString(found.Key), b.prefix)
			if !ok || !strings.HasPrefix(key, prefix) || !ours(key) {
				continue
			}
			u := &upload{bucket: b, key: key, id: aws.ToString(found.UploadId)}
			group.Go(func() error {
				if groupCtx.Err() != nil { // abort goes on without its context.
					return b.ended(groupCtx, "list uploads", prefix)
				}
				return u.abort(groupCtx, nil)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if !aws.ToBool(page.IsTruncated) || page.NextKeyMarker == nil {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}
