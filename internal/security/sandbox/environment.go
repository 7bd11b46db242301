package sandbox

import (
	"slices"
	"strings"
)

// Variables that say how native libraries and Go's runtime compute, where they are found, and which language messages are in. What is not
// listed may be a secret.
var (
	variables = []string{
		"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "GLIBC_TUNABLES",
		"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
		"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE",
	}
	variablePrefixes = []string{"LC_", "CUDA_", "CUDNN_", "CUBLAS_", "ORT_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "MALLOC_"}
)

// Environment returns those entries ("NAME=value") of an environment that a confined process may see.
func Environment(all []string) []string {
	var kept []string
	for _, entry := range all {
		name, _, _ := strings.Cut(entry, "=")
		known := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if slices.Contains(variables, name) || slices.ContainsFunc(variablePrefixes, known) {
			kept = append(kept, entry)
		}
	}
	return kept
}
