package onnx

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

const (
	// Version is the version of ONNX Runtime that the engine is built for and that scripts/fetch-onnxruntime.sh fetches. Later
	// ones work too, earlier ones do not.
	Version = "1.29.0"
	// LibraryVariable is the environment variable that names the library.
	LibraryVariable = "ENGINE_ONNXRUNTIME"
)

const howToGetLibrary = "run scripts/fetch-onnxruntime.sh or make quickstart, or give its path with --onnxruntime or in " + LibraryVariable

// LibraryName is the file name of the ONNX Runtime library on this system.
func LibraryName() string {
	switch runtime.GOOS {
	case "darwin":
		return "libonnxruntime.dylib"
	case "windows":
		return "onnxruntime.dll"
	default:
		return "libonnxruntime.so"
	}
}

// Find returns the path of the ONNX Runtime library. If explicit is not empty, it must be there; else the variable
// ENGINE_ONNXRUNTIME decides if it is set; else the library is looked for beside the running program, in lib and ../lib from
// there, and in the user's cache folder. What is not found is an error of kind engine.KindNotFound that says where it was
// looked for.
func Find(explicit string) (string, error) {
	const op = "find ONNX Runtime"
	for _, given := range []struct{ path, from string }{
		{explicit, "--onnxruntime"}, {os.Getenv(LibraryVariable), LibraryVariable},
	} {
		if given.path == "" {
			continue
		}
		if err := checkFile(given.path); err != nil {
			return "", engine.Errorf(engine.KindNotFound, op, "", "%s: %w", given.from, err).WithHint(howToGetLibrary)
		}
		return filepath.Abs(given.path)
	}
	var looked []string
	for _, dir := range searchFolders() {
		path := filepath.Join(dir, LibraryName())
		if checkFile(path) == nil {
			return path, nil
		}
		looked = append(looked, dir)
	}
	return "", engine.Errorf(engine.KindNotFound, op, "", "there is no %s in %s", LibraryName(), strings.Join(looked, ", ")).WithHint(howToGetLibrary)
}

func searchFolders() []string {
	var dirs []string
	if program, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(program); err == nil {
			program = resolved
		}
		dir := filepath.Dir(program)
		dirs = append(dirs, dir, filepath.Join(dir, "lib"), filepath.Join(filepath.Dir(dir), "lib"))
	}
	below := filepath.Join("engine", "onnxruntime", Version)
	if dir, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(dir, below))
	}
	// The script uses the XDG folder on every system.
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		dirs = append(dirs, filepath.Join(dir, below))
	} else if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".cache", below))
	}
	var unique []string
	for _, dir := range dirs {
		if !slices.Contains(unique, dir) {
			unique = append(unique, dir)
		}
	}
	return unique
}

// checkFile fails unless path can be opened and is no folder.
func checkFile(path string) error {
	f, err := os.Open(path) //nolint:gosec // The operator says which library is loaded.
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &os.PathError{Op: "open", Path: path, Err: os.ErrInvalid}
	}
	return nil
}
