package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/places"
)

// TestPlacesOfObjects writes the same folder in the ways in which URLs can.
func TestPlacesOfObjects(t *testing.T) {
	allowed, secret := filepath.Join(t.TempDir(), "allowed"), t.TempDir()
	if err := os.Mkdir(allowed, 0o777); err != nil {
		t.Fatal(err)
	}
	policy, err := places.New(places.Config{Paths: []string{allowed}})
	if err != nil {
		t.Fatal(err)
	}
	for uri, ok := range map[string]bool{
		allowed + "/x": true, "file://" + allowed + "/x": true, "file://localhost" + allowed + "/x": true,
		secret: false, "file://" + secret: false, "file://localhost" + secret: false, "file:" + secret: false,
		"file:///%74mp/../" + secret: false, "file://" + allowed + "/%2e%2e/%2e%2e" + secret: false, allowed + "/../.." + secret: false,
		"file://elsewhere" + allowed: false,
	} {
		bucket, err := openAllowed(t.Context(), uri, policy)
		if ok != (err == nil) {
			t.Errorf("%s: %v", uri, err)
		}
		if kind := engine.KindOf(err); err != nil && kind != engine.KindPermission && kind != engine.KindInvalidArgument {
			t.Errorf("%s: kind %s", uri, kind)
		}
		if err == nil {
			_ = bucket.Close()
		}
	}
}
