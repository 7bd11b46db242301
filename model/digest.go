package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
)

const digestPrefix = "sha256:"

// digest returns the digest over files, which are sorted and relative to root, and their length. See Model.Digest.
func digest(ctx context.Context, root string, files []string) (string, int64, error) {
	var total int64
	all := sha256.New()
	for _, name := range files {
		if strings.ContainsAny(name, "\n\r\\") {
			return "", 0, engine.Errorf(engine.KindModel, op, root, "file name %q holds a line end or a backslash", name)
		}
		content := sha256.New()
		n, err := hashFile(ctx, content, filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return "", 0, err
		}
		total += n
		if len(files) == 1 {
			all = content
			break
		}
		if _, err := fmt.Fprintf(all, "%x  %s\n", content.Sum(nil), name); err != nil {
			return "", 0, err
		}
	}
	return digestPrefix + hex.EncodeToString(all.Sum(nil)), total, nil
}

func hashFile(ctx context.Context, into hash.Hash, path string) (int64, error) {
	file, err := engine.OpenRegular(path)
	if err != nil {
		return 0, fileError(path, err)
	}
	defer func() { _ = file.Close() }() // Only read.
	n, err := io.Copy(into, contextReader{ctx, file})
	if err != nil && ctx.Err() == nil {
		return 0, fileError(path, err)
	}
	return n, ctx.Err()
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no place for it, and the reader lives within one call.
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
