package ipc_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/ipc"
)

// TestLies replaces each number in the header of a record batch, which are its rows, and the lengths and offsets of its buffers: what a file
// cannot hold is refused by name, nothing is read that is not there, and memory is not asked for.
func TestLies(t *testing.T) {
	for _, compression := range []string{"none", "lz4", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.arrow")
			whole, err := os.ReadFile(write(t, path, ipc.SinkOptions{Stream: true, Compression: compression}, newRecord(40, 0, 1)).Path)
			if err != nil {
				t.Fatal(err)
			}
			// The schema's message, whose body is empty, and then the header of the record batch.
			begin := 8 + int(binary.LittleEndian.Uint32(whole[4:]))
			end := begin + 8 + int(binary.LittleEndian.Uint32(whole[begin+4:]))
			refused := 0
			for at := begin + 8; at+8 <= end+16 && at+8 <= len(whole); at += 8 { // and the first length of a compressed buffer
				was := int64(binary.LittleEndian.Uint64(whole[at:]))
				for _, lie := range []int64{-1, math.MinInt64, math.MaxInt64, 1 << 40, 1 << 31, was + 1, was + 8, was * 2} {
					lied := bytes.Clone(whole)
					binary.LittleEndian.PutUint64(lied[at:], uint64(lie))
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					_, _, err := read(t, 0, dataset.ReadOptions{BatchRows: 7}, put(t, path, lied))
					runtime.ReadMemStats(&after)
					if asked := after.TotalAlloc - before.TotalAlloc; asked > 64<<20 {
						t.Errorf("byte %d, %d instead of %d: %d MiB were asked for", at, lie, was, asked>>20)
					}
					if err == nil {
						continue // It does not matter there.
					}
					refused++
					if kind := engine.KindOf(err); kind != engine.KindCorrupt && kind != engine.KindData || !strings.Contains(err.Error(), "a.arrow") {
						t.Errorf("byte %d, %d instead of %d: %v of kind %v", at, lie, was, err, kind)
					}
				}
			}
			if refused < 50 {
				t.Errorf("only %d lies were refused", refused)
			}
		})
	}
}
