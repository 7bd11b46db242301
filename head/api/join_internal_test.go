package api

import (
	"strings"
	"testing"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// What is too long for a node is refused before anything is done with it.
func TestJoinLooksAtLengthsFirst(t *testing.T) {
	_, err := NewJoin(JoinConfig{}).Join(t.Context(), &enginev1.JoinRequest{TokenId: strings.Repeat("x", 1<<20)})
	if err == nil || engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "the id of the token has 1048576 bytes") || strings.Contains(err.Error(), "xx") {
		t.Errorf("%.200v", err)
	}
}
