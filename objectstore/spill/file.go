package spill

import (
	"context"
	"errors"
	"hash/crc32"
	"io"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// suffix ends the names of object files.
const suffix = ".arrows"

// Name is the name of an object's file in its folder.
func Name(id engine.ObjectID) string { return id.String() + suffix }

// URI is the address of a key in a bucket.
func URI(bucket blob.Bucket, key string) string { return bucket.URI() + "/" + key }

// file is an object and its trailer, one after the other.
type file struct{ data, trailer []byte }

// ReadAt implements io.ReaderAt.
func (f file) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < int64(len(f.data)) {
		n = copy(p, f.data[offset:])
	}
	if rest := offset + int64(n) - int64(len(f.data)); n < len(p) && rest >= 0 && rest < int64(len(f.trailer)) {
		n += copy(p[n:], f.trailer[rest:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write stores an object under a key and returns once the bucket has given all of it back as it was written: a bucket that
// acknowledges what it did not keep is found out before the only other copy is given up. The price is one more read, which a
// folder serves from the page cache. What turns out wrong is deleted. data must not change meanwhile. With ifAbsent, a key that
// exists is an error of kind engine.KindConflict.
func Write(ctx context.Context, bucket blob.Bucket, key string, data []byte, trailer Trailer, ifAbsent bool) error {
	body := file{data, trailer.Encode()}
	if _, err := bucket.Put(ctx, key, body, trailer.SizeBytes+TrailerBytes, blob.PutOptions{IfAbsent: ifAbsent}); err != nil {
		return engine.WrapError("write object file", URI(bucket, key), err)
	}
	err := Verify(ctx, bucket, key, trailer)
	if engine.KindOf(err) == engine.KindCorrupt {
		err = errors.Join(err, bucket.Delete(ctx, key))
	}
	return err
}

// Verify reads a whole file and returns an error of kind engine.KindCorrupt if it is not what the trailer says.
func Verify(ctx context.Context, bucket blob.Bucket, key string, want Trailer) error {
	return read(ctx, bucket, key, want, func(r io.Reader) (uint32, error) {
		sum := crc32.New(castagnoli)
		n, err := io.CopyBuffer(sum, io.LimitReader(r, want.SizeBytes), make([]byte, min(want.SizeBytes, 1<<20)))
		if err == nil && n < want.SizeBytes {
			err = io.ErrUnexpectedEOF
		}
		return sum.Sum32(), err
	})
}

// Read reads an object into dst, which has its size, and checks it against the trailer: after an error of kind
// engine.KindCorrupt, which names object and file, dst has any bytes.
func Read(ctx context.Context, bucket blob.Bucket, key string, dst []byte, want Trailer) error {
	return read(ctx, bucket, key, want, func(r io.Reader) (sum uint32, err error) {
		// In pieces, so that they are summed while they are in the cache.
		for len(dst) > 0 {
			piece := dst[:min(len(dst), 1<<20)]
			if _, err := io.ReadFull(r, piece); err != nil {
				return 0, err
			}
			sum = crc32.Update(sum, castagnoli, piece)
			dst = dst[len(piece):]
		}
		return sum, nil
	})
}

// read opens a file, has body consume the object, and checks its checksum and the trailer.
func read(ctx context.Context, bucket blob.Bucket, key string, want Trailer, body func(io.Reader) (uint32, error)) (err error) {
	corrupt := func(format string, args ...any) error {
		return engine.Errorf(engine.KindCorrupt, "read object "+want.ID.String(), URI(bucket, key), format, args...)
	}
	r, info, err := bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return engine.WrapError("read object "+want.ID.String(), URI(bucket, key), err)
	}
	defer func() { _ = r.Close() }() // What matters was read.
	if info.SizeBytes != want.SizeBytes+TrailerBytes {
		return corrupt("the file has %d bytes, expected %d", info.SizeBytes, want.SizeBytes+TrailerBytes)
	}
	sum, err := body(r)
	trailer := make([]byte, TrailerBytes)
	if err == nil {
		_, err = io.ReadFull(r, trailer)
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("the file is shorter than the %d bytes that it should have", want.SizeBytes+TrailerBytes)
	case err != nil:
		return engine.WrapError("read object "+want.ID.String(), URI(bucket, key), err)
	case sum != want.CRC32C:
		return corrupt("the checksum of its %d bytes is %08x, expected %08x", want.SizeBytes, sum, want.CRC32C)
	}
	found, err := ParseTrailer(trailer)
	if err != nil {
		return engine.WrapError("read object "+want.ID.String(), URI(bucket, key), err)
	}
	if found != want {
		return corrupt("its trailer says %+v, expected %+v", found, want)
	}
	return nil
}

// ReadTrailer returns what a file says that it holds, without reading the object. The errors' kinds: engine.KindNotFound;
// engine.KindCorrupt if the file is none of ours, or is shorter or longer than it says.
func ReadTrailer(ctx context.Context, bucket blob.Bucket, key string) (Trailer, error) {
	const op = "read object file"
	uri := URI(bucket, key)
	info, err := bucket.Stat(ctx, key)
	if err != nil {
		return Trailer{}, engine.WrapError(op, uri, err)
	}
	if info.SizeBytes < TrailerBytes {
		return Trailer{}, engine.Errorf(engine.KindCorrupt, op, uri, "the file has %d bytes, fewer than its trailer", info.SizeBytes)
	}
	r, _, err := bucket.Get(ctx, key, info.SizeBytes-TrailerBytes, TrailerBytes)
	if err != nil {
		return Trailer{}, engine.WrapError(op, uri, err)
	}
	defer func() { _ = r.Close() }() // What matters was read.
	b := make([]byte, TrailerBytes)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Trailer{}, engine.Errorf(engine.KindCorrupt, op, uri, "the file ends within its trailer")
		}
		return Trailer{}, engine.WrapError(op, uri, err)
	}
	t, err := ParseTrailer(b)
	if err != nil {
		return Trailer{}, engine.WrapError(op, uri, err)
	}
	if t.SizeBytes != info.SizeBytes-TrailerBytes {
		return Trailer{}, engine.Errorf(engine.KindCorrupt, op, uri, "the file has %d bytes, its trailer says %d", info.SizeBytes, t.SizeBytes+TrailerBytes)
	}
	return t, nil
}
