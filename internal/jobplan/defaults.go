package jobplan

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// What a job has that does not say otherwise.
const (
	// DefaultBatchRows is how many rows a record batch has.
	DefaultBatchRows = 10_000
	// DefaultBatchBytes is how large a record batch may be.
	DefaultBatchBytes = 64 << 20
	// DefaultMaxAttempts is how many attempts a task has.
	DefaultMaxAttempts = 3
	// DefaultCPU is how many cores a task needs.
	DefaultCPU = 1
)

// invalid makes the error for a field of the job file.
func invalid(field, format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindInvalidArgument, "", field, format, args...)
}

// BatchRows is how many rows a record batch of the job has.
func BatchRows(spec *enginev1.JobSpec) int64 {
	if rows := spec.GetBatch().GetRows(); rows > 0 {
		return rows
	}
	return DefaultBatchRows
}

// BatchBytes is how large a record batch of the job may be, as dataset.BatchSizeBytes counts.
func BatchBytes(spec *enginev1.JobSpec) (int64, error) {
	text := spec.GetBatch().GetBytes()
	if text == "" {
		return DefaultBatchBytes, nil
	}
	bytes, err := size("batch.bytes", text)
	if err == nil && bytes < 1 {
		return 0, invalid("batch.bytes", "%q must be at least one byte", text)
	}
	return bytes, err
}

// MaxAttempts is how many attempts a task of the job has in all.
func MaxAttempts(spec *enginev1.JobSpec) int {
	if n := spec.GetRetry().GetMaxAttempts(); n > 0 {
		return int(n)
	}
	return DefaultMaxAttempts
}

// Timeout is how long the job may run; zero means without limit.
func Timeout(spec *enginev1.JobSpec) (time.Duration, error) {
	return positiveDuration("timeout", spec.GetTimeout())
}

// OrphanTTL is how long the job goes on while nobody follows it; zero means without limit.
func OrphanTTL(spec *enginev1.JobSpec) (time.Duration, error) {
	return positiveDuration("orphan_ttl", spec.GetOrphanTtl())
}

// positiveDuration reads a field that is a duration; zero means that it is not set.
func positiveDuration(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := ParseDuration(text)
	switch {
	case err != nil:
		return 0, invalid(field, "%q is not a duration: write numbers with ms, s, m, h, or d, such as 90s or 1h30m", text)
	case d <= 0:
		return 0, invalid(field, "%q must be longer than zero", text)
	}
	return d, nil
}

// Resources is what one task of the job needs.
func Resources(spec *enginev1.JobSpec) (engine.Resources, error) {
	const field = "resources"
	given := spec.GetResources()
	r := engine.Resources{CPU: DefaultCPU, GPU: given.GetGpu(), Custom: given.GetCustom()}
	if given != nil && given.Cpu != nil {
		r.CPU = given.GetCpu()
	}
	var err error
	if r.MemoryBytes, err = size(field+".memory", given.GetMemory()); err != nil {
		return engine.Resources{}, err
	}
	if r.GPUMemoryBytes, err = size(field+".gpu_memory", given.GetGpuMemory()); err != nil {
		return engine.Resources{}, err
	}
	if err := r.Validate(); err != nil {
		return engine.Resources{}, err
	}
	amounts := map[string]float64{"cpu": r.CPU, "gpu": r.GPU}
	for name, amount := range r.Custom {
		amounts["custom."+name] = amount
	}
	needed := r.MemoryBytes > 0 || r.GPUMemoryBytes > 0
	for _, name := range sortedKeys(amounts) {
		amount := amounts[name]
		if scaled := amount * 1e4; math.Abs(scaled-math.Round(scaled)) > 1e-6*math.Max(1, scaled) {
			return engine.Resources{}, invalid(field+"."+name, "%v has more than four decimals", amount)
		}
		needed = needed || amount > 0
	}
	if !needed {
		return engine.Resources{}, invalid(field, "a task must need something").WithHint("leave cpu out for one core")
	}
	return r, nil
}

// size reads a size field; an empty one is zero.
func size(field, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	bytes, err := engine.ParseSize(text)
	if err != nil {
		return 0, invalid(field, "%q is not a size: write bytes or a number with KiB, MiB, GiB, TiB, KB, MB, GB, or TB", text)
	}
	return bytes, nil
}

// durationUnits is ordered so that "ms" is tried before "m" and "s".
var durationUnits = []struct {
	suffix string
	unit   time.Duration
}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// ParseDuration reads a duration of the job file: a number with ms, s, m, h, or d (24 hours), or several of them, which are added
// up: "250ms", "1.5h", "1d12h". Negative durations, numbers without a unit, and those beyond 292 years are refused with kind
// engine.KindInvalidArgument.
func ParseDuration(text string) (time.Duration, error) {
	refuse := func() (time.Duration, error) {
		return 0, engine.Errorf(engine.KindInvalidArgument, "parse duration", "", "%q is not a duration: write numbers with ms, s, m, h, or d, such as 90s or 1h30m", text)
	}
	rest := strings.TrimSpace(text)
	if rest == "" {
		return refuse()
	}
	var total float64
	for rest != "" {
		digits := 0
		for digits < len(rest) && (rest[digits] == '.' || rest[digits] >= '0' && rest[digits] <= '9') {
			digits++
		}
		value, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return refuse()
		}
		rest = rest[digits:]
		found := false
		for _, u := range durationUnits {
			if after, ok := strings.CutPrefix(rest, u.suffix); ok {
				total += value * float64(u.unit)
				rest, found = after, true
				break
			}
		}
		if !found || total >= math.MaxInt64 {
			return refuse()
		}
	}
	return time.Duration(math.Round(total)), nil
}
