package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// abortTimeout bounds the end of an upload that failed, which must not be stopped by what made it fail.
const abortTimeout = 10 * time.Second

// errMet says that the end of an upload met another put of the same key, and that this one is to be made again.
var errMet = errors.New("another put of the same key was under way")

// upload is a multipart upload. Its methods may be called at the same time.
type upload struct {
	bucket   *Bucket
	key      string
	id       string
	token    string
	mark     string
	ifAbsent bool
	// sealed says that another process may have ended it.
	sealed bool
}

// part is a part that the server has.
type part struct {
	number    int32
	sizeBytes int64
	crc       uint32
	etag      *string
}

// begin makes an upload. The caller ends it with complete or abort.
func (b *Bucket) begin(ctx context.Context, key string, options blob.PutOptions) (*upload, error) {
	u := &upload{bucket: b, key: key, token: rand.Text(), mark: options.Mark, ifAbsent: options.IfAbsent}
	in := &sdk.CreateMultipartUploadInput{
		Bucket: &b.name, Key: b.key(key), Metadata: metadata(u.token, u.mark),
		ServerSideEncryption: types.ServerSideEncryption(b.options.Encryption), SSEKMSKeyId: b.kmsKey(),
	}
	if b.checksums {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	err := b.try(ctx, "put", key, func(ctx context.Context, _ bool) error {
		ctx, cancel := b.within(ctx, 0)
		defer cancel()
		out, err := b.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.id = aws.ToString(out.UploadId)
		}
		return err
	})
	return u, err
}

// send stores a part of a CRC32C.
func (u *upload) send(ctx context.Context, number int32, from io.ReaderAt, offsetBytes, sizeBytes int64, crc uint32) (part, error) {
	b := u.bucket
	done := part{number: number, sizeBytes: sizeBytes, crc: crc}
	err := b.try(ctx, "put", u.key, func(ctx context.Context, _ bool) error {
		ctx, cancel := b.within(ctx, sizeBytes)
		defer cancel()
		body := newBody(from, offsetBytes, sizeBytes)
		defer body.end()
		in := &sdk.UploadPartInput{Bucket: &b.name, Key: b.key(u.key), UploadId: &u.id, PartNumber: &number, Body: body, ContentLength: &sizeBytes}
		if b.checksums {
			in.ChecksumCRC32C = encodeCRC(crc)
		}
		out, err := b.client.UploadPart(ctx, in, b.unsigned)
		if err == nil {
			done.etag = out.ETag
		}
		if code(err) == "NoSuchUpload" {
			return u.gone()
		}
		return err
	})
	return done, err
}

func (u *upload) gone() error {
	kind := engine.KindUnavailable // Another attempt begins anew.
	if u.sealed {
		kind = engine.KindNotFound
	}
	return engine.Errorf(kind, "put", u.bucket.id(u.key), "the upload %s is gone from the server: somebody aborted it, or another put of the same key ended it", u.id)
}

// complete makes the object of its parts, which are in order. If it meets another put, it tries again if again is set, and else
// fails with errMet. After an error the upload must be aborted.
func (u *upload) complete(ctx context.Context, parts []part, again bool) (blob.Info, error) {
	b := u.bucket
	list := make([]types.CompletedPart, len(parts))
	var crc uint32
	var sizeBytes int64
	for i, p := range parts {
		list[i] = types.CompletedPart{PartNumber: &p.number, ETag: p.etag}
		if b.checksums {
			list[i].ChecksumCRC32C = encodeCRC(p.crc)
		}
		crc = combine(crc, p.crc, p.sizeBytes)
		sizeBytes += p.sizeBytes
	}
	in := &sdk.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: b.key(u.key), UploadId: &u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: list}, MpuObjectSize: &sizeBytes,
	}
	if b.checksums {
		in.ChecksumCRC32C, in.ChecksumType = encodeCRC(crc), types.ChecksumTypeFullObject
	}
	if u.ifAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	info := blob.Info{Key: u.key, SizeBytes: sizeBytes, Mark: u.mark}
	err := b.try(ctx, "put", u.key, func(ctx context.Context, doubtful bool) error {
		attempt, cancel := b.within(ctx, sizeBytes/64) // the server may copy the parts together
		defer cancel()
		out, err := b.client.CompleteMultipartUpload(attempt, in)
		if err == nil && u.ifAbsent {
			info, err = u.see(ctx)
			return err
		}
		if err == nil {
			info.ETag, info.Modified = aws.ToString(out.ETag), time.Now()
			return nil
		}
		status, gone := httpStatus(err), code(err) == "NoSuchUpload"
		switch {
		case status == http.StatusConflict && !again:
			return engine.Errorf(engine.KindUnavailable, "put", b.id(u.key), "%w", errMet)
		case gone || (doubtful || u.sealed) && status == http.StatusPreconditionFailed:
			stored, is, verifyErr := b.mine(ctx, u.key, u.token)
			switch {
			case verifyErr != nil:
				return verifyErr
			case is:
				info = stored
				return nil
			case gone:
				return u.gone()
			}
		}
		if status == http.StatusPreconditionFailed {
			return b.exists(u.key)
		}
		return err
	})
	return info, err
}

// errUnseen says that the server has said that an object is there, and it is not.
var errUnseen = errors.New("the server said that the upload has ended, and there is no object")

// see looks at the object that the server says the upload has become. Some servers say so, too, of an upload that was aborted when there
// is another object in its place, or that is being ended by another request which may yet fail (versitygw 1.8).
func (u *upload) see(ctx context.Context) (blob.Info, error) {
	out, err := u.bucket.head(ctx, "put", u.key)
	switch {
	case engine.KindOf(err) == engine.KindNotFound:
		return blob.Info{}, errUnseen
	case err != nil:
		return blob.Info{}, err
	case find(out.Metadata, tokenKey) != u.token:
		return blob.Info{}, u.bucket.exists(u.key)
	}
	return describe(u.key, out), nil
}

// abortTries is how often an upload is aborted, at most: a server may answer that it is gone only the second time, and a part that was
// under way when its request was given up may be stored after the first.
const abortTries = 3

// abort deletes the parts and returns err, with a word on what could not be deleted.
func (u *upload) abort(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	b := u.bucket
	for n, gone := 1, false; n <= abortTries && !gone; n++ {
		var failed error
		gone, failed = u.abortOnce(ctx)
		if failed != nil && err == nil {
			return failed
		}
		if failed != nil {
			return &engine.Error{Kind: engine.KindOf(err), Err: fmt.Errorf("%w; the parts of the upload %s could not be deleted: %w", err, u.id, failed)}
		}
		if !gone && !b.pause(ctx, n) {
			break
		}
	}
	return err
}

// abortOnce is enough where all requests for parts were answered. gone says that the server does not know the upload any more.
func (u *upload) abortOnce(ctx context.Context) (gone bool, err error) {
	b := u.bucket
	err = b.try(ctx, "put", u.key, func(ctx context.Context, _ bool) error {
		_, err := b.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: &b.name, Key: b.key(u.key), UploadId: &u.id})
		if gone = code(err) == "NoSuchUpload"; gone {
			return nil
		}
		return err
	})
	return gone, err
}
