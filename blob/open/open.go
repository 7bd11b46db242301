// Package open makes a bucket of its address. It is apart from package blob so that who takes a bucket links no client of S3.
package open

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/blob/s3"
)

// Options are what addresses do not say.
type Options struct {
	// S3 is for addresses that begin with s3://. Settings in the address override it.
	S3 s3.Options
}

// Bucket opens the bucket of an address:
//
//   - "/folder" or "file:///folder" is a folder, which the first object makes if it does not exist;
//   - "s3://bucket/prefix?setting=value" is a part of a bucket in S3, see s3.ParseURI;
//   - "mem://name/prefix" is in the memory of this process, the same for all who name it, for tests.
//
// It does not look whether the bucket is there. An address that is none of these is an error of kind engine.KindInvalidArgument. The
// caller closes the bucket.
func Bucket(ctx context.Context, uri string, options Options) (blob.Bucket, error) {
	address, _, _ := strings.Cut(uri, "?") // what follows may be no business of a log's
	bad := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, "open bucket", address, format, args...)
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	switch {
	case filepath.IsAbs(uri):
		return opened(file.Open(uri))
	case !ok:
		return nil, bad("is neither an absolute path nor an address that begins with file://, s3:// or mem://")
	case scheme == "file":
		u, err := url.Parse(uri)
		if err != nil || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, bad("is no address like file:///folder")
		}
		return opened(file.Open(filepath.FromSlash(u.Path)))
	case scheme == "s3":
		return opened(s3.Open(ctx, uri, options.S3))
	case scheme == "mem":
		name, prefix, _ := strings.Cut(rest, "/")
		if name == "" {
			return nil, bad("has no name")
		}
		b := memory.Shared(name)
		if prefix = strings.Trim(prefix, "/"); prefix != "" {
			if err := blob.CheckKey(prefix); err != nil {
				return nil, bad("%w", err)
			}
			b = b.Prefixed(prefix)
		}
		return b, nil
	default:
		return nil, bad("the scheme %q is not known, known are file, s3 and mem", scheme)
	}
}

// opened keeps a nil pointer from becoming a bucket that is not nil.
func opened[B blob.Bucket](b B, err error) (blob.Bucket, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}
