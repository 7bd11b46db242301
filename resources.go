package engine

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Resources is what a task requests or a node offers. The zero value requests nothing.
type Resources struct {
	// CPU counts logical cores; fractions are allowed to four decimals.
	CPU float64
	// GPU counts devices; fractions share one device, to four decimals.
	GPU float64
	// MemoryBytes is host memory.
	MemoryBytes int64
	// GPUMemoryBytes is device memory.
	GPUMemoryBytes int64
	// Custom counts resources that the cluster's operator named, such as licences, to four decimals. May be nil.
	Custom map[string]float64
}

// Add returns the sum of both. It shares no map with either.
func (r Resources) Add(other Resources) Resources {
	sum := Resources{
		CPU: r.CPU + other.CPU, GPU: r.GPU + other.GPU,
		MemoryBytes: r.MemoryBytes + other.MemoryBytes, GPUMemoryBytes: r.GPUMemoryBytes + other.GPUMemoryBytes,
	}
	if len(r.Custom)+len(other.Custom) > 0 {
		sum.Custom = make(map[string]float64, max(len(r.Custom), len(other.Custom)))
		maps.Copy(sum.Custom, r.Custom)
		for name, v := range other.Custom {
			sum.Custom[name] += v
		}
	}
	return sum
}

// Validate returns an InvalidArgument error that names the first amount which is negative, not a number, or absurd
// (over a million cores or devices, or over a pebibyte), or a custom resource whose name is taken.
func (r Resources) Validate() error {
	const maxUnits, maxBytes = 1e6, int64(1) << 50
	check := func(name string, v float64) error {
		if math.IsNaN(v) || v < 0 || v > maxUnits {
			return Errorf(KindInvalidArgument, "resources", "", "%s must be between 0 and %d, found %v", name, int64(maxUnits), v)
		}
		return nil
	}
	if err := check("cpu", r.CPU); err != nil {
		return err
	}
	if err := check("gpu", r.GPU); err != nil {
		return err
	}
	for _, b := range []struct {
		name string
		v    int64
	}{{"memory", r.MemoryBytes}, {"gpu_memory", r.GPUMemoryBytes}} {
		if b.v < 0 || b.v > maxBytes {
			return Errorf(KindInvalidArgument, "resources", "", "%s must be between 0 and 1PiB, found %d bytes", b.name, b.v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
		switch name {
		case "", "cpu", "gpu", "memory", "gpu_memory", "CPU", "GPU":
			return Errorf(KindInvalidArgument, "resources", "", "custom resource may not be named %q", name)
		}
		if err := check("custom resource "+name, r.Custom[name]); err != nil {
			return err
		}
	}
	return nil
}

// String lists the amounts that are not zero, such as "cpu: 1, memory: 512MiB", or "nothing".
func (r Resources) String() string {
	var parts []string
	add := func(name string, v float64) {
		if v != 0 {
			parts = append(parts, name+": "+strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	add("cpu", r.CPU)
	add("gpu", r.GPU)
	if r.MemoryBytes != 0 {
		parts = append(parts, "memory: "+FormatSize(r.MemoryBytes))
	}
	if r.GPUMemoryBytes != 0 {
		parts = append(parts, "gpu_memory: "+FormatSize(r.GPUMemoryBytes))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Custom)) {
		add(name, r.Custom[name])
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// sizeUnits is ordered from the longest suffix, so that "MiB" is tried before "B". Within one length the order is free.
var sizeUnits = []struct {
	suffix string
	factor uint64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"P", 1 << 50}, {"B", 1},
}

// ParseSize reads a number of bytes: "67108864", "64MiB" (2^20), "64MB" (10^6), "1.5GiB". Single letters and Kubernetes'
// "Mi" mean powers of two. The number is written in decimal digits, with a point at most, and read exactly. Negative,
// fractional-byte, and overflowing values are refused with an InvalidArgument error.
func ParseSize(text string) (int64, error) {
	number, factor := strings.TrimSpace(text), uint64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	whole, fraction, _ := strings.Cut(number, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" || strings.Contains(fraction, ".") {
		return 0, Errorf(KindInvalidArgument, "parse size", "", "%q is not a size: write bytes or a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB", text)
	}
	const wrong = "%q is not a whole number of bytes below 8192PiB"
	var high, bytes uint64
	if whole = strings.TrimLeft(whole, "0"); whole != "" {
		v, err := strconv.ParseUint(whole, 10, 63)
		if err != nil {
			return 0, Errorf(KindInvalidArgument, "parse size", "", wrong, text)
		}
		high, bytes = bits.Mul64(v, factor)
	}
	if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
		// 10^18 is the largest power that fits; no unit has a part that needs more digits and is of use.
		v, err := strconv.ParseUint(fraction, 10, 63)
		if err != nil || len(fraction) > 18 {
			return 0, Errorf(KindInvalidArgument, "parse size", "", wrong, text)
		}
		scale := uint64(1)
		for range fraction {
			scale *= 10
		}
		h, l := bits.Mul64(v, factor)
		part, rest := bits.Div64(h, l, scale)
		if rest != 0 {
			return 0, Errorf(KindInvalidArgument, "parse size", "", wrong, text)
		}
		var carry uint64
		bytes, carry = bits.Add64(bytes, part, 0)
		high += carry
	}
	if high != 0 || bytes > math.MaxInt64 {
		return 0, Errorf(KindInvalidArgument, "parse size", "", wrong, text)
	}
	return int64(bytes), nil
}

// FormatSize writes a number of bytes with the largest binary unit that leaves at least 1, to one decimal: "512MiB", "1.5GiB".
func FormatSize(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(bytes), 0
	// What rounds to 1024 belongs to the next unit as well.
	for math.Abs(math.Round(v*10)/10) >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%s%s", strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64), units[i])
}
