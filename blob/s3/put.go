package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// tokenKey is the metadata under which an object carries the token of the put that made it.
const tokenKey = "engine-put"

// markKey is the metadata that holds an object's mark.
const markKey = "engine-mark"

// metadata is what an object carries: the token of its put, unless that is empty, and its mark.
func metadata(token, mark string) map[string]string {
	pairs := map[string]string{}
	if token != "" {
		pairs[tokenKey] = token
	}
	if mark != "" {
		pairs[markKey] = mark
	}
	return pairs
}

// find returns a value of an object's metadata. Servers change the case of names.
func find(metadata map[string]string, key string) string {
	for name, value := range metadata {
		if strings.EqualFold(name, key) {
			return value
		}
	}
	return ""
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, from io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckMark(key, options.Mark); err != nil {
		return blob.Info{}, err
	}
	if sizeBytes < 0 {
		return blob.Info{}, engine.Errorf(engine.KindInvalidArgument, "put", b.id(key), "a size of %d bytes", sizeBytes)
	}
	if sizeBytes <= b.options.PartBytes {
		crc, err := checksum(from, 0, sizeBytes)
		if err != nil {
			return blob.Info{}, engine.WrapError("put", b.id(key), err)
		}
		return b.putWhole(ctx, key, from, sizeBytes, crc, options)
	}
	for n := 1; ; n++ {
		info, err := b.putParts(ctx, key, from, sizeBytes, options)
		if !errors.Is(err, errMet) || n >= b.options.Attempts {
			return info, err
		}
		if !b.pause(ctx, n) {
			return blob.Info{}, b.ended(ctx, "put", key)
		}
	}
}

// putWhole stores an object of a CRC32C with one request.
func (b *Bucket) putWhole(ctx context.Context, key string, from io.ReaderAt, sizeBytes int64, crc uint32, options blob.PutOptions) (info blob.Info, err error) {
	in := sdk.PutObjectInput{
		Bucket: &b.name, Key: b.key(key), ContentLength: &sizeBytes,
		ServerSideEncryption: types.ServerSideEncryption(b.options.Encryption), SSEKMSKeyId: b.kmsKey(),
	}
	token := ""
	if options.IfAbsent {
		token = rand.Text()
		in.IfNoneMatch = aws.String("*")
	}
	in.Metadata = metadata(token, options.Mark)
	if b.checksums {
		in.ChecksumCRC32C = encodeCRC(crc)
	}
	err = b.try(ctx, "put", key, func(ctx context.Context, doubtful bool) error {
		attempt, cancel := b.within(ctx, sizeBytes)
		defer cancel()
		body := newBody(from, 0, sizeBytes)
		defer body.end()
		in := in
		in.Body = body
		out, err := b.client.PutObject(attempt, &in, b.unsigned)
		if err == nil {
			info = blob.Info{Key: key, SizeBytes: sizeBytes, ETag: aws.ToString(out.ETag), Modified: time.Now(), Mark: options.Mark}
			return nil
		}
		if httpStatus(err) == http.StatusPreconditionFailed {
			if doubtful {
				stored, is, verifyErr := b.mine(ctx, key, token)
				if verifyErr != nil {
					return verifyErr
				}
				if is {
					info = stored
					return nil
				}
			}
			return b.exists(key)
		}
		return err
	})
	return info, err
}

func (b *Bucket) exists(key string) error {
	return engine.Errorf(engine.KindConflict, "put", b.id(key), "exists already")
}

// mine tells whether the object that is there was made by the put with this token.
func (b *Bucket) mine(ctx context.Context, key, token string) (blob.Info, bool, error) {
	out, err := b.head(ctx, "put", key)
	if engine.KindOf(err) == engine.KindNotFound {
		return blob.Info{}, false, nil
	}
	if err != nil {
		return blob.Info{}, false, err
	}
	if find(out.Metadata, tokenKey) != token {
		return blob.Info{}, false, nil
	}
	return describe(key, out), true, nil
}

// unsigned leaves a body out of the signature where something else protects it: TLS, or its checksum. Hashing it costs more than
// sending it on a fast link.
func (b *Bucket) unsigned(o *sdk.Options) {
	if b.checksums || !strings.HasPrefix(b.endpoint, "http://") {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

func (b *Bucket) kmsKey() *string {
	if b.options.KMSKeyID == "" {
		return nil
	}
	return &b.options.KMSKeyID
}

// putParts stores an object in parts, several at a time. An error that is errMet means that all has to be done again.
func (b *Bucket) putParts(ctx context.Context, key string, from io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	partBytes := max(b.options.PartBytes, (sizeBytes+maxParts-1)/maxParts)
	u, err := b.begin(ctx, key, options)
	if err != nil {
		return blob.Info{}, err
	}
	// After a failure no part is begun any more. Those under way end by themselves: a part that the server is still storing while the
	// upload is aborted can stay behind.
	parts, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make([]part, (sizeBytes+partBytes-1)/partBytes)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(b.options.Concurrency, len(done)) {
		workers.Go(func() {
			for i := range next {
				at := int64(i) * partBytes
				size := min(partBytes, sizeBytes-at)
				crc, err := checksum(from, at, size)
				if err == nil {
					done[i], err = u.send(ctx, int32(i+1), from, at, size, crc)
				}
				if err != nil {
					cancel(engine.WrapError("put", b.id(key), err))
				}
			}
		})
	}
feed:
	for i := range done {
		select {
		case next <- i:
		case <-parts.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	if parts.Err() != nil {
		return blob.Info{}, u.abort(ctx, b.ended(parts, "put", key))
	}
	info, err := u.complete(ctx, done, false)
	if err != nil {
		return blob.Info{}, u.abort(ctx, err)
	}
	return info, nil
}
