package rpc_test

import (
	"strings"
	"testing"

	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestListColumns(t *testing.T) {
	var columns []*enginev1.ColumnInfo
	if got := rpc.ListColumns(columns); got != "" {
		t.Errorf("%q of no columns", got)
	}
	for range 42 {
		columns = append(columns, &enginev1.ColumnInfo{Name: "c", Type: "int64"})
	}
	if got, want := rpc.ListColumns(columns[:2]), "c int64, c int64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := rpc.ListColumns(columns), strings.Repeat("c int64, ", 40)+"and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
