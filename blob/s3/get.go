package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Get implements blob.Bucket. The reader asks again for what is missing when the body is cut or stalls. The CRC32C of an object that
// is read as a whole is compared with the server's if it has one: damage is an error of kind engine.KindCorrupt, at the end.
func (b *Bucket) Get(ctx context.Context, key string, offsetBytes, lengthBytes int64) (io.ReadCloser, blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, blob.Info{}, err
	}
	if err := blob.CheckRange(key, offsetBytes, lengthBytes); err != nil {
		return nil, blob.Info{}, err
	}
	r := &reader{bucket: b, ctx: ctx, key: key, next: offsetBytes, end: -1}
	if lengthBytes >= 0 {
		r.end = offsetBytes + lengthBytes
	}
	if lengthBytes == 0 {
		return b.emptyRange(ctx, key, offsetBytes)
	}
	if err := b.try(ctx, "get", key, r.open); err != nil {
		if r.beyond {
			return b.emptyRange(ctx, key, offsetBytes)
		}
		return nil, blob.Info{}, err
	}
	return r, r.info, nil
}

// emptyRange is what S3 has no request for: no bytes of an object, which must reach to offsetBytes.
func (b *Bucket) emptyRange(ctx context.Context, key string, offsetBytes int64) (io.ReadCloser, blob.Info, error) {
	info, err := b.Stat(ctx, key)
	if err != nil {
		return nil, blob.Info{}, err
	}
	if offsetBytes > info.SizeBytes {
		return nil, blob.Info{}, engine.Errorf(engine.KindInvalidArgument, "get", b.id(key), "offset %d is behind its end, it has %d bytes", offsetBytes, info.SizeBytes)
	}
	return io.NopCloser(strings.NewReader("")), info, nil
}

// reader is the body of an object across as many requests as it takes.
type reader struct {
	bucket *Bucket
	ctx    context.Context //nolint:containedctx // Get's, which the reader lives under: io.Reader has none.
	key    string
	// info is set by the first answer; its ETag is the condition of all others.
	info blob.Info
	// next is the offset of the next byte, end that behind the last; end is -1 for the object's own until the first answer.
	next, end int64
	// beyond says that the first byte lies beyond the end of the object.
	beyond bool
	// want is the checksum of the whole, if checked.
	checked   bool
	want, crc uint32

	body   io.ReadCloser // nil while there is no request
	cancel context.CancelFunc
	stall  *time.Timer
	cuts   int // since the last byte
	err    error
}

// open asks for what is left. It is called by try.
func (r *reader) open(ctx context.Context, _ bool) error {
	b := r.bucket
	first := r.info.Key == ""
	in := &sdk.GetObjectInput{Bucket: &b.name, Key: b.key(r.key)}
	whole := r.next == 0 && r.end < 0
	var apply []func(*sdk.Options)
	if whole {
		apply = append(apply, sdk.WithAPIOptions(smithyhttp.SetHeaderValue("x-amz-checksum-mode", string(types.ChecksumModeEnabled))))
	} else {
		asked := fmt.Sprintf("bytes=%d-", r.next)
		if r.end >= 0 {
			asked += strconv.FormatInt(r.end-1, 10)
		}
		in.Range = &asked
	}
	if !first {
		in.IfMatch = &r.info.ETag
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stall := time.AfterFunc(b.options.Timeout, func() { cancel(errSlow) })
	out, err := b.client.GetObject(ctx, in, apply...)
	if !stall.Stop() && err == nil {
		_ = out.Body.Close()
		err = errSlow
	}
	if err == nil {
		if err = r.accept(first, whole, out); err != nil {
			_ = out.Body.Close()
		}
	}
	if err != nil {
		slow := errors.Is(context.Cause(ctx), errSlow)
		cancel(nil)
		switch {
		case slow:
			return errSlow
		case httpStatus(err) == http.StatusRequestedRangeNotSatisfiable && first:
			r.beyond = true
		case httpStatus(err) == http.StatusPreconditionFailed, !first && code(err) == "NoSuchKey":
			return r.changed()
		}
		return err
	}
	r.body, r.stall, r.cancel = out.Body, stall, func() { cancel(nil) }
	return nil
}

func (r *reader) changed() error {
	return engine.Errorf(engine.KindConflict, "get", r.bucket.id(r.key), "was replaced or deleted while it was read, at byte %d of %d", r.next, r.info.SizeBytes)
}

// accept looks at an answer.
func (r *reader) accept(first, whole bool, out *sdk.GetObjectOutput) error {
	size, from := aws.ToInt64(out.ContentLength), int64(0)
	if out.ContentRange != nil {
		var to int64
		if n, err := fmt.Sscanf(*out.ContentRange, "bytes %d-%d/%d", &from, &to, &size); n != 3 {
			return engine.Errorf(engine.KindUnavailable, "get", r.bucket.id(r.key), "the server answered with the range %q: %w", *out.ContentRange, err)
		}
	}
	if from != r.next {
		return engine.Errorf(engine.KindUnavailable, "get", r.bucket.id(r.key), "the server answered from byte %d on, asked was from %d", from, r.next)
	}
	if !first {
		if aws.ToString(out.ETag) != r.info.ETag { // for servers that do not know If-Match
			return r.changed()
		}
		return nil
	}
	r.info = blob.Info{Key: r.key, SizeBytes: size, ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified), Mark: find(out.Metadata, markKey)}
	if r.end < 0 || r.end > size {
		r.end = size
	}
	if whole && out.ChecksumType != types.ChecksumTypeComposite && out.ChecksumCRC32C != nil {
		r.want, r.checked = decodeCRC(*out.ChecksumCRC32C)
	}
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.next == r.end {
			r.err = r.finish()
			break
		}
		if len(p) == 0 {
			return 0, nil
		}
		if r.body == nil {
			if r.err = r.bucket.try(r.ctx, "get", r.key, r.open); r.err != nil {
				break
			}
		}
		r.stall.Reset(r.bucket.options.Timeout)
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.next)])
		inTime := r.stall.Stop()
		if n > 0 {
			if r.checked {
				r.crc = crc32.Update(r.crc, castagnoli, p[:n])
			}
			r.next += int64(n)
			r.cuts = 0
		}
		if err != nil && r.next < r.end || !inTime {
			r.hangUp()
			if n == 0 {
				r.err = r.cut(err)
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// cut decides whether to go on after a body broke off.
func (r *reader) cut(cause error) error {
	if r.ctx.Err() != nil {
		return r.bucket.ended(r.ctx, "get", r.key)
	}
	if r.cuts++; r.cuts >= r.bucket.options.Attempts || r.info.ETag == "" {
		if cause == nil || errors.Is(cause, io.EOF) {
			cause = io.ErrUnexpectedEOF
		}
		return engine.Errorf(engine.KindUnavailable, "get", r.bucket.id(r.key), "the body breaks off at byte %d of %d: %w", r.next, r.info.SizeBytes, cause)
	}
	if !r.bucket.pause(r.ctx, r.cuts) {
		return r.bucket.ended(r.ctx, "get", r.key)
	}
	return nil
}

// finish compares the checksum.
func (r *reader) finish() error {
	if r.checked && r.crc != r.want {
		return engine.Errorf(engine.KindCorrupt, "get", r.bucket.id(r.key), "damaged: its CRC32C is %08x, the server's %08x", r.crc, r.want)
	}
	return io.EOF
}

// hangUp ends the request.
func (r *reader) hangUp() {
	if r.body == nil {
		return
	}
	r.stall.Stop()
	if r.next == r.end {
		drain(r.body)
	} else {
		_ = r.body.Close()
	}
	r.cancel()
	r.body = nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.hangUp()
	if r.err == nil {
		r.err = engine.Errorf(engine.KindInternal, "get", r.bucket.id(r.key), "the reader is closed")
	}
	return nil
}
