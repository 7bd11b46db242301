package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/cgroup"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/security/sandbox"
	models "github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// weight is what a model's file says before anybody evaluates it.
type weight struct {
	files []string // that loading reads
	bytes int64    // of all of them
}

// weigh refuses what is no model or breaks the limits of package model. No path is no model, for who wants to see an executor.
func weigh(ctx context.Context, path string) (w weight, err error) {
	if path == "" {
		return w, nil
	}
	w.files, w.bytes, err = models.Files(ctx, path)
	return w, engine.WrapError("load model", path, err)
}

// launch starts the process of an executor, in a cgroup if there is to be one. It evaluates nothing before it is told to, by when it is in there.
func launch(command func(*cgroup.Group) *exec.Cmd, config *Config, device runtime.Device, files []string) (*exec.Cmd, *cgroup.Group, error) {
	group := config.cgroup()
	cmd, err := launchIn(group, command, config, device, files)
	if err != nil && group != nil {
		// The kernel may be too old, or who manages cgroups may have taken the place away.
		config.remove(group)
		cmd, again := launchIn(nil, command, config, device, files)
		if again != nil {
			return nil, nil, again
		}
		config.couldNotEnter(err)
		return cmd, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err := group.Add(cmd.Process.Pid); err != nil {
		config.couldNotEnter(err)
	}
	return cmd, group, nil
}

// launchIn starts the process of an executor, which may read the given files.
func launchIn(group *cgroup.Group, command func(*cgroup.Group) *exec.Cmd, config *Config, device runtime.Device, files []string) (*exec.Cmd, error) {
	extra := slices.Concat(config.Environment, testEnvironment(), []string{variable + "=1"})
	if config.Sandbox == SandboxOff {
		cmd := command(nil)
		cmd.Env = append(sandbox.Environment(os.Environ()), extra...)
		err := cmd.Start()
		return cmd, err
	}
	policy := sandbox.Policy{
		Read:  slices.Concat(files, config.Read, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))),
		Write: slices.Concat(config.Write, testFolders()),
	}
	if _, gpu := device.GPU(); gpu {
		policy.GPU, policy.AnyFile = true, config.anyFile
		if cache := computeCache(); cache != "" {
			policy.Write = append(policy.Write, cache)
		}
	}
	return sandbox.Start(func() *exec.Cmd { return command(group) }, policy, extra...)
}

// computeCache is the folder in which CUDA keeps the code that it compiles for a GPU, which may take it minutes; empty if there is none.
func computeCache() string {
	folder := os.Getenv("CUDA_CACHE_PATH")
	if home, err := os.UserHomeDir(); folder == "" && err == nil {
		folder = filepath.Join(home, ".nv", "ComputeCache")
	}
	if folder == "" || os.Getenv("CUDA_CACHE_DISABLE") == "1" || os.MkdirAll(folder, 0o700) != nil {
		return ""
	}
	return folder
}

// failpoints are the variables of the environment that name failpoints, and files of theirs.
var failpoints = []string{failpoint.Variable, failpoint.OnceVariable, failpoint.TraceVariable}

// testEnvironment is what failpoints need, in a build that has them.
func testEnvironment() (kept []string) {
	for _, name := range failpoints {
		if value, ok := os.LookupEnv(name); ok && failpoint.Enabled {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}

// testFolders are where failpoints, and tests that measure what they cover, write.
func testFolders() (folders []string) {
	if folder := os.Getenv("GOCOVERDIR"); folder != "" {
		folders = append(folders, folder)
	}
	if failpoint.Enabled {
		folders = append(folders, os.Getenv(failpoint.OnceVariable), filepath.Dir(os.Getenv(failpoint.TraceVariable)))
	}
	return folders
}

// tell says once what of an executor's sandbox is missing.
func (c *Config) tell(report sandbox.Report) {
	switch {
	case c.told != nil:
		c.told(report)
	case c.Sandbox == SandboxOff:
		c.said.Do(func() {
			c.Logger.Warn("executors are not confined: who takes one over by a model has all rights of this user", "sandbox", c.Sandbox)
		})
	case !report.Complete():
		c.said.Do(func() {
			c.Logger.Warn("executors are confined in part only: see engine doctor", "missing", missing(report))
		})
	}
}

// missing says which measures are not in force, and why.
func missing(report sandbox.Report) (all []string) {
	for _, m := range report {
		if m.Missing != "" {
			all = append(all, m.Name+": "+m.Missing)
		}
	}
	if len(report) == 0 {
		return []string{"this system has no sandbox"}
	}
	return all
}

// Probe starts an executor without a model, as a Loader would, and reports how it is confined. A system without a sandbox has an empty report.
func Probe(ctx context.Context, config Config) (report sandbox.Report, err error) {
	loader, err := New(config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, loader.Close()) }()
	heard := false
	loader.config.told = func(r sandbox.Report) { report, heard = r, true }
	_, _, err = start(ctx, &loader.config, runtime.LoadRequest{})
	if !heard {
		return nil, err
	}
	if len(report) > 0 {
		report = append(report, loader.config.cgroups.measure())
	}
	return report, nil // It has refused to load nothing, as it should.
}

// loadLimits bound the start of one executor.
type loadLimits struct {
	time        time.Duration
	memoryBytes int64 // 0: no bound
}

func (c *Config) loadLimits(modelBytes int64) loadLimits {
	const gib = 1 << 30
	l := loadLimits{time: c.LoadTimeout, memoryBytes: max(c.LoadMemoryBytes, 0)}
	if c.LoadTimeout == 0 {
		l.time = 5*time.Minute + time.Duration(float64(modelBytes)/gib*float64(time.Minute))
	}
	if c.LoadMemoryBytes == 0 {
		l.memoryBytes = 4*gib + 4*modelBytes
	}
	return l
}

// What ends loading.
var (
	errTooSlow  = errors.New("loading took too long")
	errTooLarge = errors.New("loading took too much memory")
)

func (l loadLimits) refuse(op, path string, why error) error {
	what := fmt.Sprintf("%v to load, which is the limit", l.time)
	if errors.Is(why, errTooLarge) {
		what = fmt.Sprintf("over %s of memory to load, which is the limit", engine.FormatSize(l.memoryBytes))
	}
	return engine.Errorf(engine.KindModel, op, path, "the model takes %s", what).
		WithHint("if the model is to be trusted, raise --model-load-timeout or --model-load-memory of the worker")
}

// watchEvery is how often the memory of an executor is looked at that loads its model.
const watchEvery = 20 * time.Millisecond

// watch ends loading when the process takes more memory than it may.
func (c *child) watch(loading context.Context, mostBytes int64, excess context.CancelCauseFunc, done chan<- struct{}) {
	defer close(done)
	if mostBytes == 0 {
		return
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-loading.Done():
			return
		case <-ticker.C:
			if c.anonymousBytes() > mostBytes {
				excess(errTooLarge)
				return
			}
		}
	}
}

// anonymousBytes is how much memory the process has that is no file's, or 0 if that cannot be found out. Libraries for GPUs map files of gigabytes.
func (c *child) anonymousBytes() int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}

func reportToProto(report sandbox.Report) []*enginev1.ExecutorMeasure {
	wire := make([]*enginev1.ExecutorMeasure, len(report))
	for i, m := range report {
		wire[i] = &enginev1.ExecutorMeasure{Name: m.Name, Missing: m.Missing}
	}
	return wire
}

func reportFromProto(wire []*enginev1.ExecutorMeasure) (report sandbox.Report) {
	for _, m := range wire {
		report = append(report, sandbox.Measure{Name: m.GetName(), Missing: m.GetMissing()})
	}
	return report
}
