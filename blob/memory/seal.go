package memory

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

var (
	_ blob.Sealer        = (*Bucket)(nil)
	_ blob.Sweeper       = (*Bucket)(nil)
	_ blob.SealingWriter = (*writer)(nil)
)

// Seal implements blob.SealingWriter.
func (w *writer) Seal(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil || w.ended {
		return "", w.bucket.fail(engine.KindInternal, "put", w.key, "this writer has ended")
	}
	w.ended = true
	o := w.bucket.objects
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version++
	sealed := fmt.Sprintf("seal %d", o.version)
	kept := *w
	o.sealed[sealed] = &kept
	return sealed, nil
}

// Reveal implements blob.Sealer.
func (b *Bucket) Reveal(ctx context.Context, sealed string) (blob.Info, error) {
	o := b.objects
	o.mu.Lock()
	w, old := o.sealed[sealed], o.revealed[sealed]
	now := o.byKey[b.prefix+old.Key].info
	o.mu.Unlock()
	switch {
	case w != nil:
		info, err := w.bucket.store(ctx, w.key, w.data, w.options)
		if err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			delete(o.sealed, sealed)
			o.revealed[sealed] = info
		}
		return info, err
	case old.Key != "" && now.ETag == old.ETag:
		return old, nil
	default:
		return blob.Info{}, b.fail(engine.KindNotFound, "reveal", old.Key, "what was sealed is gone")
	}
}

// Unseal implements blob.Sealer.
func (b *Bucket) Unseal(_ context.Context, sealed string) error {
	b.objects.mu.Lock()
	defer b.objects.mu.Unlock()
	delete(b.objects.sealed, sealed)
	return nil
}

// Sweep implements blob.Sweeper: it drops what was sealed.
func (b *Bucket) Sweep(_ context.Context, prefix string, ours func(key string) bool) error {
	b.objects.mu.Lock()
	defer b.objects.mu.Unlock()
	maps.DeleteFunc(b.objects.sealed, func(_ string, w *writer) bool {
		key, ok := strings.CutPrefix(w.bucket.prefix+w.key, b.prefix)
		return ok && strings.HasPrefix(key, prefix) && ours(key)
	})
	return nil
}
