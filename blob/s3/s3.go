// Package s3 is a bucket in Amazon S3 or a server that speaks its protocol.
//
// Objects above a size are uploaded in parts, in parallel, by a small loop of our own rather than the SDK's transfer manager: bodies
// are io.ReaderAt, so that parts need no buffers, and the end of an upload is conditional and verified. A part's CRC32C goes along,
// and that of the whole object, so that the server refuses what was damaged on the way.
//
// Requests are repeated after failures that can pass: 5xx, throttling, timeouts, broken connections. A body that is cut while it is
// read goes on from where it was, on the condition that the object is still the same (If-Match). A put that was to make a new object
// (If-None-Match) and is answered 412 may have met itself: an earlier attempt was stored and its reply lost. Such objects carry a
// random token in their metadata, and the token of the object that is there tells which of the two it was. The same token tells
// whether a multipart upload that has vanished was completed. A 409 means that two puts met; then the put is made again.
//
// A program that is killed in the middle of a multipart upload leaves parts behind, which are not visible and cost room: have a
// lifecycle rule of the bucket delete incomplete uploads after a day or more, which Sweep does on demand. What a writer seals is such an
// upload, too, until it is revealed.
package s3

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Bucket is a blob.Bucket in S3. It is safe for concurrent use. Calls block on the network, and end with their context.
type Bucket struct {
	name, prefix string
	options      Options
	// endpoint is empty for Amazon's own.
	endpoint string
	// checksums says that bodies carry their CRC32C.
	checksums bool
	client    *sdk.Client
	http      *http.Client
	// own is nil if the writers' buffers are somebody else's.
	own *Buffers
	// answered says that the bucket exists: a request to it has succeeded.
	answered atomic.Bool
}

var _ blob.Bucket = (*Bucket)(nil)

// Open makes a bucket of "s3://bucket/prefix?setting=value"; see ParseURI for the settings, which override options. It reads AWS's
// configuration files and environment but sends nothing: whether bucket and credentials are good shows with the first request. Close
// must be called.
func Open(ctx context.Context, uri string, options Options) (*Bucket, error) {
	name, prefix, options, err := ParseURI(uri, options)
	if err != nil {
		return nil, err
	}
	b := &Bucket{name: name, prefix: prefix, options: options.withDefaults()}
	if b.prefix != "" {
		b.prefix += "/"
	}
	if b.options.Buffers == nil {
		b.own = NewBuffers(0, "")
		b.options.Buffers = b.own
	}
	if err := b.connect(ctx); err != nil {
		return nil, engine.WrapError("open bucket", b.URI(), err)
	}
	return b, nil
}

// URI implements blob.Bucket: "s3://bucket/prefix", without the settings.
func (b *Bucket) URI() string {
	if b.prefix == "" {
		return "s3://" + b.name
	}
	return "s3://" + b.name + "/" + b.prefix[:len(b.prefix)-1]
}

// id names an object for people.
func (b *Bucket) id(key string) string {
	if key == "" {
		return b.URI()
	}
	return "s3://" + b.name + "/" + b.prefix + key
}

func (b *Bucket) key(key string) *string { return aws.String(b.prefix + key) }

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	out, err := b.head(ctx, "stat", key)
	if err != nil {
		return blob.Info{}, err
	}
	return describe(key, out), nil
}

func describe(key string, out *sdk.HeadObjectOutput) blob.Info {
	return blob.Info{
		Key: key, SizeBytes: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
		Mark: find(out.Metadata, markKey),
	}
}

func (b *Bucket) head(ctx context.Context, op, key string) (out *sdk.HeadObjectOutput, err error) {
	err = b.try(ctx, op, key, func(ctx context.Context, _ bool) error {
		ctx, cancel := b.within(ctx, 0)
		defer cancel()
		out, err = b.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &b.name, Key: b.key(key)})
		if status := httpStatus(err); status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotFound && !b.answered.Load() {
			return b.explain(ctx, key, err)
		}
		return err
	})
	return out, err
}

// explain asks again for what a HEAD was refused, since the answer to a HEAD has no body that would say why.
func (b *Bucket) explain(ctx context.Context, key string, err error) error {
	out, getErr := b.client.GetObject(ctx, &sdk.GetObjectInput{Bucket: &b.name, Key: b.key(key), Range: aws.String("bytes=0-0")})
	if getErr == nil {
		_ = out.Body.Close()
		return err
	}
	if httpStatus(getErr) == 0 {
		return err
	}
	return getErr
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	err := b.try(ctx, "delete", key, func(ctx context.Context, _ bool) error {
		ctx, cancel := b.within(ctx, 0)
		defer cancel()
		_, err := b.client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: &b.name, Key: b.key(key)})
		if code(err) == "NoSuchKey" {
			return nil
		}
		return err
	})
	return err
}

// Close implements blob.Bucket. It closes connections that nobody uses; requests that are under way go on, except that writers which hold
// more than there is memory for fail unless the Buffers are somebody else's.
func (b *Bucket) Close() error {
	b.http.CloseIdleConnections()
	if b.own != nil {
		return b.own.Close()
	}
	return nil
}

// drain reads and closes what is left of a small body, so that its connection can be used again.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}
