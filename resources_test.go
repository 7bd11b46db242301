package engine_test

import (
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/f708428e/engine"
)

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"0GiB", 0},
		{"1", 1},
		{"67108864", 64 << 20},
		{"64MiB", 64 << 20},
		{"64Mi", 64 << 20},
		{"64M", 64 << 20},
		{"64MB", 64e6},
		{"7B", 7},
		{"3KiB", 3 << 10},
		{"3Ki", 3 << 10},
		{"3K", 3 << 10},
		{"3KB", 3000},
		{"3kB", 3000},
		{"2GiB", 2 << 30},
		{"2Gi", 2 << 30},
		{"2G", 2 << 30},
		{"2GB", 2e9},
		{"5TiB", 5 << 40},
		{"5Ti", 5 << 40},
		{"5T", 5 << 40},
		{"5TB", 5e12},
		{"6PiB", 6 << 50},
		{"6PB", 6e15},
		{"1.5GiB", 3 << 29},
		{"0.5KiB", 512},
		{".5KiB", 512},
		{"1.50KB", 1500},
		{" 64 MiB ", 64 << 20},
		{"0064", 64},
		// What floating point would spoil.
		{"1.001KB", 1001},
		{"4.35GB", 4_350_000_000},
		{"0.57MB", 570_000},
		{"1.000000000001TB", 1_000_000_000_001},
		{"9007199254740993", 9007199254740993},
		{"9223372036854775807", math.MaxInt64},
		{"9223372036854775807B", math.MaxInt64},
		{"8191.9990234375PiB", 8191<<50 + 1023<<40},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := engine.ParseSize(tt.text)
			if err != nil || got != tt.want {
				t.Errorf("ParseSize(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestParseSizeRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "B", "MiB", "GiBGiB", "-1", "-0", "+1", "-1MiB", "1.5", "1.5B", "0.1KiB", "1.0001KB", "ten", "1,5GiB", "1 000", "1_000", "1MiB2", "64mib",
		"NaN", "Inf", "infB", "0x10", "0x1p4", "1e3", "1.2.3", ".", ".GiB", "9223372036854775808", "8192PiB", "99999999999999999999999", "1EiB",
		"0." + strings.Repeat("0", 60) + "1PiB", "٣MiB",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := engine.ParseSize(text)
			if err == nil {
				t.Fatalf("ParseSize(%q) = %d, want an error", text, got)
			}
			if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), strconv.Quote(text)) {
				t.Errorf("ParseSize(%q) says %q (%s)", text, err, engine.KindOf(err))
			}
		})
	}
}

func TestFormatSize(t *testing.T) {
	tests := []struct {
		bytes int64
		want  string
	}{
		{0, "0B"},
		{1, "1B"},
		{1023, "1023B"},
		{1024, "1KiB"},
		{1536, "1.5KiB"},
		{64 << 20, "64MiB"},
		{3 << 29, "1.5GiB"},
		{5 << 40, "5TiB"},
		{6 << 50, "6PiB"},
		{math.MaxInt64, "8192PiB"},
		{-1536, "-1.5KiB"},
		// What rounds up to the next unit is written in it.
		{1<<20 - 1, "1MiB"},
		{1<<40 - 1, "1TiB"},
		{1023 << 10, "1023KiB"},
	}
	for _, tt := range tests {
		if got := engine.FormatSize(tt.bytes); got != tt.want {
			t.Errorf("FormatSize(%d) = %q, want %q", tt.bytes, got, tt.want)
		}
	}
}

// FuzzParseSize checks that whatever is accepted is a number of bytes that reads back, and agrees with floating point where that is exact
// enough to judge.
func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"64MiB", "1.5GiB", "67108864", "9223372036854775807", "8192PiB", "0.1KiB", " 7 B ", "1e3", ".5K", "5.K", "-1", "NaN", "0x1p4", "0.0000000000000000001PB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := engine.ParseSize(text)
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || e.Kind != engine.KindInvalidArgument {
				t.Fatalf("ParseSize(%q) fails with %v", text, err)
			}
			return
		}
		if v < 0 {
			t.Fatalf("ParseSize(%q) = %d", text, v)
		}
		if again, err := engine.ParseSize(strconv.FormatInt(v, 10)); err != nil || again != v {
			t.Fatalf("ParseSize(%q) = %d, which reads back as %d, %v", text, v, again, err)
		}
		number, unit := strings.TrimSpace(text), int64(1)
		if i := strings.IndexAny(number, "BKMGTPk"); i >= 0 {
			if unit, err = engine.ParseSize("1" + number[i:]); err != nil {
				t.Fatalf("ParseSize(%q) works and the unit alone does not: %v", text, err)
			}
			number = strings.TrimSpace(number[:i])
		}
		approximate, err := strconv.ParseFloat(number, 64)
		if err != nil || math.Abs(approximate*float64(unit)-float64(v)) > 1e-12*float64(v) {
			t.Fatalf("ParseSize(%q) = %d, floating point says %v, %v", text, v, approximate*float64(unit), err)
		}
	})
}

func TestResourcesString(t *testing.T) {
	tests := []struct {
		r    engine.Resources
		want string
	}{
		{engine.Resources{}, "nothing"},
		{engine.Resources{CPU: 1, MemoryBytes: 512 << 20}, "cpu: 1, memory: 512MiB"},
		{engine.Resources{CPU: 0.5, GPU: 0.25, GPUMemoryBytes: 4 << 30}, "cpu: 0.5, gpu: 0.25, gpu_memory: 4GiB"},
		{engine.Resources{CPU: 1e6}, "cpu: 1000000"},
		{engine.Resources{Custom: map[string]float64{"z": 1, "a": 0.1, "none": 0}}, "a: 0.1, z: 1"},
	}
	for _, tt := range tests {
		if got := tt.r.String(); got != tt.want {
			t.Errorf("String() = %q, want %q", got, tt.want)
		}
	}
}

func TestResourcesAdd(t *testing.T) {
	a := engine.Resources{CPU: 1, GPU: 0.5, MemoryBytes: 3, GPUMemoryBytes: 4, Custom: map[string]float64{"x": 1}}
	b := engine.Resources{CPU: 2, GPU: 0.25, MemoryBytes: 30, GPUMemoryBytes: 40, Custom: map[string]float64{"x": 2, "y": 3}}
	want := engine.Resources{CPU: 3, GPU: 0.75, MemoryBytes: 33, GPUMemoryBytes: 44, Custom: map[string]float64{"x": 3, "y": 3}}
	if got := a.Add(b); !reflect.DeepEqual(got, want) {
		t.Errorf("the sum is %+v, expected %+v", got, want)
	}
	if got := (engine.Resources{}).Add(a); !reflect.DeepEqual(got, a) || len(a.Custom) != 1 || a.Custom["x"] != 1 {
		t.Errorf("the sum with nothing is %+v, expected %+v as it was", got, a)
	}
}

func TestResourcesValidate(t *testing.T) {
	tests := []struct {
		name string
		r    engine.Resources
		// want is part of the message; empty is no error.
		want string
	}{
		{"nothing", engine.Resources{}, ""},
		{"ordinary", engine.Resources{CPU: 0.5, GPU: 1, MemoryBytes: 1 << 30, GPUMemoryBytes: 1, Custom: map[string]float64{"license": 1}}, ""},
		{"the limits", engine.Resources{CPU: 1e6, GPU: 1e6, MemoryBytes: 1 << 50, GPUMemoryBytes: 1 << 50}, ""},
		{"negative cpu", engine.Resources{CPU: -0.1}, "cpu must be between 0 and 1000000, found -0.1"},
		{"cpu is no number", engine.Resources{CPU: math.NaN()}, "cpu must be between 0 and 1000000, found NaN"},
		{"infinite gpu", engine.Resources{GPU: math.Inf(1)}, "gpu must be between 0 and 1000000, found +Inf"},
		{"absurd cpu", engine.Resources{CPU: 1e6 + 1}, "cpu must be between"},
		{"negative memory", engine.Resources{MemoryBytes: -1}, "memory must be between 0 and 1PiB, found -1 bytes"},
		{"absurd memory", engine.Resources{MemoryBytes: 1<<50 + 1}, "memory must be between"},
		{"negative gpu memory", engine.Resources{GPUMemoryBytes: -1}, "gpu_memory must be between"},
		{"a name that is taken", engine.Resources{Custom: map[string]float64{"gpu_memory": 1}}, `may not be named "gpu_memory"`},
		{"no name", engine.Resources{Custom: map[string]float64{"": 1}}, `may not be named ""`},
		{"negative custom", engine.Resources{Custom: map[string]float64{"license": -1}}, "custom resource license must be between"},
		{"the first by name", engine.Resources{Custom: map[string]float64{"b": -1, "a": -2}}, "found -2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.r.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want == "":
			case err == nil:
				t.Errorf("accepted, want an error with %q", tt.want)
			case !strings.Contains(err.Error(), tt.want) || engine.KindOf(err) != engine.KindInvalidArgument:
				t.Errorf("error %q (%s), want %q", err, engine.KindOf(err), tt.want)
			}
		})
	}
}
