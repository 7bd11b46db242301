package gossip

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"

	"github.com/hashicorp/memberlist"
)

// keyBytes is the length of a key that nobody else has, which a member uses until there are others.
const keyBytes = 32

// openKeyring makes the keyring, and returns what is closed when there may be other keys.
func (m *Member) openKeyring() (changed <-chan struct{}, err error) {
	keys, changed := m.config.Keys()
	if len(keys) == 0 {
		own := make([]byte, keyBytes)
		_, _ = rand.Read(own) // It never fails.
		keys = [][]byte{own}
	}
	m.keyring, err = memberlist.NewKeyring(keys, keys[0])
	return changed, err
}

// followKeys takes over the keys whenever they change, until ctx ends.
func (m *Member) followKeys(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		var keys [][]byte
		if keys, changed = m.config.Keys(); len(keys) == 0 {
			continue
		}
		if err := setKeys(m.keyring, keys); err != nil {
			m.config.Logger.WarnContext(ctx, "the keys of the gossip were not taken over", "error", err)
			continue
		}
		m.Look() // Who was not understood before may be now.
	}
}

// setKeys makes a keyring have these keys alone, of which the first is used. They come to its front one by one, and the others are then removed
// from its end: the ring hands out its own slice, and removes in place, which would change the slice under those who read it.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	var errs []error
	for _, key := range slices.Backward(keys) {
		errs = append(errs, ring.AddKey(key), ring.UseKey(key))
	}
	for _, old := range slices.Backward(ring.GetKeys()[len(keys):]) {
		errs = append(errs, ring.RemoveKey(old))
	}
	return errors.Join(errs...)
}
