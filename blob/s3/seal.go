package s3

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

var (
	_ blob.Sealer        = (*Bucket)(nil)
	_ blob.SealingWriter = (*writer)(nil)
)

// sealedUpload is an upload that lacks nothing but its end, as the text of a seal has it.
type sealedUpload struct {
	Key      string       `json:"key"`
	ID       string       `json:"id"`
	Token    string       `json:"token"`
	Mark     string       `json:"mark,omitempty"`
	IfAbsent bool         `json:"if_absent,omitempty"`
	Parts    []sealedPart `json:"parts"`
}

type sealedPart struct {
	SizeBytes int64  `json:"size_bytes"`
	CRC       uint32 `json:"crc"`
	ETag      string `json:"etag"`
}

// Seal implements blob.SealingWriter: what is sealed is a multipart upload, which the bucket's lifecycle rule for unfinished ones may end.
func (w *writer) Seal(ctx context.Context) (string, error) {
	if err := w.failure(); err != nil {
		return "", err
	}
	detach := context.AfterFunc(ctx, func() { w.stop(context.Cause(ctx)) })
	defer detach()
	if err := w.finish(); err != nil {
		return "", err
	}
	u := w.upload
	sealed := sealedUpload{Key: w.bucket.prefix + u.key, ID: u.id, Token: u.token, Mark: u.mark, IfAbsent: u.ifAbsent}
	for _, p := range w.done {
		etag := ""
		if p.etag != nil {
			etag = *p.etag
		}
		sealed.Parts = append(sealed.Parts, sealedPart{SizeBytes: p.sizeBytes, CRC: p.crc, ETag: etag})
	}
	text, err := json.Marshal(sealed)
	if err != nil {
		return "", engine.Errorf(engine.KindInternal, "put", w.bucket.id(w.key), "seal: %w", err)
	}
	w.upload = nil
	w.end(nil)
	return string(text), nil
}

// unseal takes the text of a seal apart.
func (b *Bucket) unseal(sealed string) (u *upload, parts []part, err error) {
	bad := func() (*upload, []part, error) {
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, "reveal", b.URI(), "this is nothing that was sealed here")
	}
	var s sealedUpload
	if err := json.Unmarshal([]byte(sealed), &s); err != nil || s.ID == "" || s.Token == "" || len(s.Parts) == 0 {
		return bad()
	}
	key, ok := strings.CutPrefix(s.Key, b.prefix)
	if !ok || blob.CheckKey(key) != nil {
		return bad()
	}
	for i, p := range s.Parts {
		parts = append(parts, part{number: int32(i + 1), sizeBytes: p.SizeBytes, crc: p.CRC, etag: &p.ETag}) //nolint:gosec // S3 has 10,000 parts at most.
	}
	return &upload{bucket: b, key: key, id: s.ID, token: s.Token, mark: s.Mark, ifAbsent: s.IfAbsent, sealed: true}, parts, nil
}

// Reveal implements blob.Sealer.
func (b *Bucket) Reveal(ctx context.Context, sealed string) (blob.Info, error) {
	u, parts, err := b.unseal(sealed)
	if err != nil {
		return blob.Info{}, err
	}
	return u.complete(ctx, parts, true)
}

// Unseal implements blob.Sealer.
func (b *Bucket) Unseal(ctx context.Context, sealed string) error {
	u, _, err := b.unseal(sealed)
	if err != nil {
		return err
	}
	return u.abort(ctx, nil)
}
