//go:build !linux

package local_test

import (
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/local"
)

func TestUnsupported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	if _, err := local.Listen(t.Context(), local.ServerConfig{Path: path}); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("listen: %v", err)
	}
	if _, err := local.Dial(t.Context(), path, local.Options{}); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("dial: %v", err)
	}
}
