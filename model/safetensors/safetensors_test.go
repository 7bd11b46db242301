package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/safetensors"
)

// file returns a file with the header and data bytes behind it.
func file(header string, data []byte) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
}

func open(content []byte) (*safetensors.File, error) {
	return safetensors.New("w.safetensors", bytes.NewReader(content), int64(len(content)))
}

func TestReadFloat32(t *testing.T) {
	var data []byte
	for _, v := range []float32{1.5, -2, 0x1p-149, float32(math.Inf(1))} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	halves := []uint16{0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x7c00, 0xfc00, 0x8000}
	for _, h := range halves {
		data = binary.LittleEndian.AppendUint16(data, h)
	}
	data = append(data, 0x80, 0x3f, 0x49, 0xc0) // 1 and -3.140625
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(1.0/3))
	data = binary.LittleEndian.AppendUint64(data, 7)
	f, err := open(file(`{"__metadata__":{"format":"pt"},"f32":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
		"f16":{"dtype":"F16","shape":[8],"data_offsets":[16,32]},"bf16":{"dtype":"BF16","shape":[1,2],"data_offsets":[32,36]},
		"f64":{"dtype":"F64","shape":[],"data_offsets":[36,44]},"i64":{"dtype":"I64","shape":[1],"data_offsets":[44,52]},
		"none":{"dtype":"F32","shape":[0,3],"data_offsets":[16,16]}}   `, data))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Names(); !slices.Equal(got, []string{"bf16", "f16", "f32", "f64", "i64", "none"}) {
		t.Errorf("names %q", got)
	}
	for name, want := range map[string][]float32{
		"f32":  {1.5, -2, 0x1p-149, float32(math.Inf(1))},
		"f16":  {1, -2, 0x1p-24, -1023 * 0x1p-24, 65504, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.Copysign(0, -1))},
		"bf16": {1, -3.140625}, "f64": {1.0 / 3}, "none": {},
	} {
		for from := 0; from <= len(want); from++ {
			got := make([]float32, len(want)-from)
			if err := f.ReadFloat32(name, int64(from), got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[from+i]) {
					t.Errorf("%s from %d: got %v, want %v", name, from, got, want[from:])
				}
			}
		}
	}
	for name, test := range map[string]struct {
		from int64
		n    int
		want string
	}{
		"i64":     {0, 1, `tensor "i64": found I64, expected F32`},
		"missing": {0, 1, `tensor "missing": not in the file`},
		"f32":     {3, 2, `tensor "f32": elements 3 to 5 of 4`},
		"f16":     {-1, 1, `elements -1`},
	} {
		err := f.ReadFloat32(name, test.from, make([]float32, test.n))
		if err == nil || !strings.Contains(err.Error(), test.want) || engine.KindOf(err) != engine.KindModel {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestHalfIsExactForAll(t *testing.T) {
	var data []byte
	for h := range 1 << 16 {
		data = binary.LittleEndian.AppendUint16(data, uint16(h))
	}
	f, err := open(file(`{"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}}`, data))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 1<<16)
	if err := f.ReadFloat32("h", 0, got); err != nil {
		t.Fatal(err)
	}
	for h, v := range got {
		exponent, fraction := h>>10&31, float64(h&1023)
		want := math.Ldexp(1+fraction/1024, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -24)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			want = math.NaN()
		}
		if h>>15 == 1 {
			want = -want
		}
		if float64(v) != want && !(math.IsNaN(want) && v != v) {
			t.Fatalf("%#04x: got %g, want %g", h, v, want)
		}
	}
}

func TestRefusesHeaders(t *testing.T) {
	tensor := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"a":{"dtype":%q,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	two := `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[%d,%d]}}`
	eight := make([]byte, 8)
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":          {nil, "it has 0 bytes"},
		"lfs":            {[]byte("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"},
		"text":           {[]byte("fixed acidity;volatile"), "at most 100000000 are allowed"},
		"long header":    {binary.LittleEndian.AppendUint64(nil, 50), "truncated: the header has 50 bytes, the file 8"},
		"no object":      {file(`[1]`, nil), "no JSON object"},
		"cut JSON":       {file(`{"a":{"dtype":"U8"`, nil), "header: "},
		"not closed":     {file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, nil), "header: "},
		"behind":         {file(`{} {}`, nil), "3 bytes follow its end"},
		"twice":          {file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, nil), `"a" stands there twice`},
		"dtype":          {file(tensor("I4", "[2]", "[0,1]"), eight), `unknown dtype "I4"`},
		"negative shape": {file(tensor("F32", "[-2]", "[0,8]"), eight), "shape [-2]"},
		"fraction":       {file(tensor("F32", "[2.5]", "[0,8]"), eight), `tensor "a": json`},
		"overflow":       {file(tensor("F32", "[4294967296,4294967296,4294967296]", "[0,8]"), eight), "is too large"},
		"overflow to 0":  {file(tensor("U8", "[4294967296,4294967296]", "[0,0]"), nil), "is too large"},
		"dimensions":     {file(tensor("U8", "["+strings.Repeat("1,", 20)+"1]", "[0,1]"), eight[:1]), "21 dimensions"},
		"offsets":        {file(tensor("F32", "[2]", "[8,0]"), eight), "data_offsets [8 0]"},
		"one offset":     {file(tensor("F32", "[2]", "[8]"), eight), "data_offsets [8]"},
		"far offsets":    {file(tensor("F32", "[2]", "[9223372036854775800,9223372036854775807]"), eight), "data_offsets"},
		"length":         {file(tensor("F32", "[2]", "[0,4]"), eight), "hold 4 bytes, F32[2] needs 8"},
		"beyond":         {file(tensor("F32", "[4]", "[0,16]"), eight), "truncated: the tensors end at byte"},
		"overlap":        {file(fmt.Sprintf(two, 1, 3), eight[:3]), `"b" begins at byte`},
		"gap":            {file(fmt.Sprintf(two, 3, 5), eight[:5]), `"b" begins at byte`},
		"trailing":       {file(tensor("U8", "[2]", "[0,2]"), eight), "6 bytes follow the last tensor"},
		"metadata":       {file(`{"__metadata__":{"a":1}}`, nil), "__metadata__"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(test.content)
			if err == nil || !strings.Contains(err.Error(), test.want) || engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "w.safetensors") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestFileBecomesShorter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	content := file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, make([]byte, 8))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, int64(len(content)-4)); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadFloat32("b", 0, make([]float32, 2)); err == nil || !strings.Contains(err.Error(), "became shorter") {
		t.Errorf("got %v", err)
	}
}

func TestSet(t *testing.T) {
	dir := t.TempDir()
	write := func(name, tensor string, v float32) string {
		path := filepath.Join(dir, name)
		content := file(fmt.Sprintf(`{%q:{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, tensor), binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two, again := write("1", "b", 1), write("2", "a", 2), write("3", "b", 3)
	s, err := safetensors.OpenSet(one, two)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := make([]float32, 1)
	if err := s.ReadFloat32("a", 0, got); err != nil || got[0] != 2 || !slices.Equal(s.Names(), []string{"a", "b"}) {
		t.Errorf("got %v, %v, %v", got, err, s.Names())
	}
	if err := s.ReadFloat32("c", 0, got); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
	if _, err := safetensors.OpenSet(one, again); err == nil || !strings.Contains(err.Error(), `tensor "b" is in `+one+" too") {
		t.Errorf("got %v", err)
	}
	if _, err := safetensors.OpenSet(filepath.Join(dir, "none")); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	if _, err := safetensors.OpenSet(dir); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
}

// FuzzNew: whatever a header says, what is then read lies within the file.
func FuzzNew(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}`, make([]byte, 12)))
	f.Add(file(`{"__metadata__":{"format":"pt"},"a":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}}  `, nil))
	f.Add(file(`{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := open(content)
		if err != nil {
			if engine.KindOf(err) != engine.KindModel {
				t.Fatalf("kind %v: %v", engine.KindOf(err), err)
			}
			return
		}
		total := int64(0)
		for _, name := range s.Names() {
			tensor, ok := s.Tensor(name)
			if !ok || tensor.Elements < 0 || tensor.Elements > int64(len(content)) {
				t.Fatalf("tensor %q: %+v", name, tensor)
			}
			total += tensor.Elements
			if strings.HasPrefix(tensor.DType, "F") && !strings.HasPrefix(tensor.DType, "F8") || tensor.DType == "BF16" {
				if err := s.ReadFloat32(name, 0, make([]float32, tensor.Elements)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if total > int64(len(content)) {
			t.Fatalf("%d elements in %d bytes", total, len(content))
		}
	})
}
