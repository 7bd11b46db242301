package blobtest

import (
	"fmt"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// seals leaves the end of puts to others.
func seals(t *testing.T, b blob.Bucket, largeBytes int) {
	sealer, ok := b.(blob.Sealer)
	if !ok {
		return // It is an extra.
	}
	seal := func(key string, data []byte) string {
		w := create(t, b, key, blob.PutOptions{IfAbsent: true, Mark: "sealed"}).(blob.SealingWriter)
		write(t, w, data)
		sealed, err := w.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Fatal("a writer can write after Seal")
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	for i, size := range []int{0, 10, largeBytes, 2*largeBytes + 1} {
		key, data := fmt.Sprintf("folder/%d", size), Bytes(uint64(i), size)
		sealed := seal(key, data)
		_, err := b.Stat(t.Context(), key)
		WantKind(t, err, engine.KindNotFound)
		wantKeys(t, b, key)
		for range 3 {
			info, err := sealer.Reveal(t.Context(), sealed)
			if err != nil || info.Key != key || info.SizeBytes != int64(size) || info.Mark != "sealed" {
				t.Fatalf("reveal gave %+v, %v", info, err)
			}
			Want(t, b, key, data)
		}
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		_, err = sealer.Reveal(t.Context(), sealed)
		WantKind(t, err, engine.KindNotFound)

		late := seal(key, data)
		Put(t, b, key, []byte("somebody else's"))
		_, err = sealer.Reveal(t.Context(), late)
		WantKind(t, err, engine.KindConflict)
		Want(t, b, key, []byte("somebody else's"))

		swept, spared := seal("swept/a", data), seal("swept/b", data)
		if err := b.(blob.Sweeper).Sweep(t.Context(), "", func(key string) bool { return key != "swept/b" }); err != nil {
			t.Fatal(err)
		}
		_, err = sealer.Reveal(t.Context(), swept)
		WantKind(t, err, engine.KindNotFound)
		if _, err = sealer.Reveal(t.Context(), spared); err != nil {
			t.Fatal(err)
		}
		given := seal("given up", data)
		for _, sealed := range []string{given, given, swept, spared} {
			if err := sealer.Unseal(t.Context(), sealed); err != nil {
				t.Fatal(err)
			}
		}
		_, err = sealer.Reveal(t.Context(), given)
		WantKind(t, err, engine.KindNotFound)
		Want(t, b, "swept/b", data)
		if err := b.Delete(t.Context(), "swept/b"); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "{}", "null", `{"key":"../x","id":"a","token":"b","parts":[{}]}`} {
		if _, err := sealer.Reveal(t.Context(), bad); err == nil {
			t.Errorf("%q can be revealed", bad)
		}
	}
}
