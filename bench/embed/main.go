// Command bench-embed compares the engine's step embed with a bare loop around the same session of ONNX Runtime, in turn, in one
// process: same graph, same threads, and for the loop the best batches that we know, as many calls of one thread beside each other, and
// texts that have been tokenized before. What is between the two is the engine's own cost: tokenizing, padding, pooling, and columns. See bench.py for whole jobs.
//
//	bench-embed            rounds of both in turn
//	bench-embed -sweep     the bare loop with several budgets of padded tokens, in turn
//	bench-embed -graph     prints the path of the graph, for others' benchmarks
package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/onnx"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/tokenizer"
)

var (
	folder  = flag.String("model", defaultModel(), "model folder")
	texts   = flag.String("texts", "../shared/data/ag-news-3800.csv", "CSV file without header whose second and third columns are joined")
	threads = flag.Int("threads", goruntime.NumCPU(), "calls beside each other, of one thread each")
	tokens  = flag.Int("tokens", embedding.CPUBatchTokens, "budget of padded tokens, of both")
	rows    = flag.Int("rows", 0, "texts of a round; 0 for all of the file")
	rounds  = flag.Int("rounds", 5, "rounds of each")
	sweep   = flag.Bool("sweep", false, "compare budgets")
	graph   = flag.Bool("graph", false, "print the path of the graph")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench-embed:", err)
		os.Exit(1)
	}
}

func cacheFolder() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), ".cache")
}

func defaultModel() string {
	return filepath.Join(cacheFolder(), "engine", "models", "all-minilm-l6-v2")
}

// bench is what all rounds share.
type bench struct {
	spec    *model.Embedding
	model   runtime.Model
	words   *tokenizer.Tokenizer
	record  arrow.Record
	ids     [][]int32 // tokenized before, as the bare loop has them
	callers []caller  // of the bare loop
	vectors []float32 // of the bare loop
}

func run(ctx context.Context) error {
	b := &bench{}
	var err error
	if b.spec, err = model.OpenEmbedding(ctx, *folder); err != nil {
		return err
	}
	path, err := b.spec.Materialize(ctx, filepath.Join(cacheFolder(), "engine", "models"))
	if err != nil {
		return err
	}
	if *graph {
		fmt.Println(path)
		return nil
	}
	b.words = b.spec.Tokenizer
	loader, err := onnx.New(onnx.Config{Library: os.Getenv("ENGINE_ONNXRUNTIME")})
	if err != nil {
		return err
	}
	defer func() { _ = loader.Close() }() // The process ends.
	b.model, err = loader.Load(ctx, runtime.LoadRequest{Path: path, Threads: 1, Outputs: []string{b.spec.Output}})
	if err != nil {
		return err
	}
	defer func() { _ = b.model.Close() }() // As above.
	if err := b.read(); err != nil {
		return err
	}
	defer b.record.Release()
	fmt.Printf("%d texts, %d tokens, %d threads of %d cores; load at start %s\n", len(b.ids), count(b.ids), *threads, goruntime.NumCPU(), load())
	if *sweep {
		return b.sweep(ctx)
	}
	return b.compare(ctx)
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

func count(ids [][]int32) (n int) {
	for _, text := range ids {
		n += len(text)
	}
	return n
}

// read makes the record of the engine and the ids of the loop.
func (b *bench) read() error {
	f, err := os.Open(*texts)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // Only read.
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return err
	}
	if *rows > 0 && *rows < len(all) {
		all = all[:*rows]
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "title", Type: arrow.BinaryTypes.String}, {Name: "body", Type: arrow.BinaryTypes.String}}, nil)
	builder := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	defer builder.Release()
	encoder := b.words.NewEncoder()
	for _, row := range all {
		if len(row) < 3 {
			return fmt.Errorf("%s: a row of %d fields", *texts, len(row))
		}
		builder.Field(0).(*array.StringBuilder).Append(row[1])
		builder.Field(1).(*array.StringBuilder).Append(row[2])
		ids, _ := encoder.AppendIDs(nil, row[1]+" "+row[2], b.spec.MaxTokens)
		b.ids = append(b.ids, ids)
	}
	b.record = builder.NewRecord()
	return nil
}

// compare runs engine and loop in turn.
func (b *bench) compare(ctx context.Context) error {
	embedder, err := embedding.New(embedding.Config{Model: b.model, Spec: b.spec, Tokenizer: b.words, Normalize: b.spec.Normalize, BatchTokens: *tokens, Parallel: *threads})
	if err != nil {
		return err
	}
	op, err := operator.NewEmbed(operator.EmbedParams{
		Schema: b.record.Schema(), Text: []int{0, 1}, Column: "embedding", Embedder: embedder, Allocator: memory.NewGoAllocator(),
	})
	if err != nil {
		return err
	}
	var times, cpu [2][]time.Duration
	var vectors []float32
	for round := range *rounds + 1 {
		for _, who := range [][]int{{0, 1}, {1, 0}}[round%2] {
			began, used := time.Now(), cpuTime()
			if who == 0 {
				out, err := op.Apply(ctx, b.record)
				if err != nil {
					return err
				}
				vectors = slices.Clone(out.Column(2).(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values())
				out.Release()
			} else if err := b.loop(ctx, *tokens); err != nil {
				return err
			}
			if round > 0 { // the first warms up
				times[who] = append(times[who], time.Since(began))
				cpu[who] = append(cpu[who], cpuTime()-used)
			}
		}
	}
	stats, n := op.Stats(), float64(len(b.ids))
	ratios, cpuRatios := make([]float64, *rounds), make([]float64, *rounds)
	for i := range ratios {
		ratios[i] = times[1][i].Seconds() / times[0][i].Seconds()
		cpuRatios[i] = cpu[1][i].Seconds() / cpu[0][i].Seconds()
	}
	fmt.Printf("engine     %8.1f texts/s (median of %d rounds)\nbare loop  %8.1f texts/s\nratio      %8.3f (median of the rounds'; %.3f to %.3f)\n",
		n/median(times[0]).Seconds(), *rounds, n/median(times[1]).Seconds(), median(ratios), slices.Min(ratios), slices.Max(ratios))
	fmt.Printf("by CPU     %8.3f (median; %.3f to %.3f), which counts where other programs run too; %.2f ms of the engine's a text\n",
		median(cpuRatios), slices.Min(cpuRatios), slices.Max(cpuRatios), 1e3*median(cpu[0]).Seconds()/n)
	fmt.Printf("padding    %8.2f %% of the tokens computed; %d distinct of %d texts, in %d calls\n",
		100*float64(stats.PaddedTokens-stats.Tokens)/float64(stats.PaddedTokens), stats.Distinct/int64(*rounds+1), len(b.ids), stats.Calls/int64(*rounds+1))
	var most float32
	for i := range vectors {
		most = max(most, vectors[i]-b.vectors[i], b.vectors[i]-vectors[i])
	}
	fmt.Printf("difference %8.1e at most between the two's vectors\n", most)
	b.tokenize()
	fmt.Printf("peak RSS   %8.0f MB, of both together\n", float64(usage().Maxrss)/1e3)
	return nil
}

func usage() (u syscall.Rusage) {
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // It cannot fail for the process itself.
	return u
}

// cpuTime is what all threads have used so far.
func cpuTime() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tokenize measures what the engine does beside the model.
func (b *bench) tokenize() {
	encoder, ids := b.words.NewEncoder(), make([]int32, 0, 1<<10)
	title, body := b.record.Column(0).(*array.String), b.record.Column(1).(*array.String)
	began := time.Now()
	for i := range b.ids {
		ids, _ = encoder.AppendIDs(ids[:0], title.Value(i)+" "+body.Value(i), b.spec.MaxTokens)
	}
	took := time.Since(began)
	fmt.Printf("tokenizing %8.1f µs a text\n", float64(took.Microseconds())/float64(len(b.ids)))
}

// sweep runs the loop with several budgets.
func (b *bench) sweep(ctx context.Context) error {
	budgets := []int{128, 256, 384, 512, 768, 1024, 2048, 4096, 16_384}
	times := make([][]time.Duration, len(budgets))
	for round := range *rounds + 1 {
		for i, budget := range budgets {
			began := time.Now()
			if err := b.loop(ctx, budget); err != nil {
				return err
			}
			if round > 0 {
				times[i] = append(times[i], time.Since(began))
			}
		}
	}
	for i, budget := range budgets {
		n := float64(len(b.ids))
		fmt.Printf("%6d tokens  %8.1f texts/s (best %.1f)\n", budget, n/median(times[i]).Seconds(), n/slices.Min(times[i]).Seconds())
	}
	return nil
}

// caller makes calls of the bare loop.
type caller struct {
	ids, mask, types []int64
	hidden           []float32
}

// loop is what one would write by hand: sorted by length, calls of a budget beside each other, mean, unit length.
func (b *bench) loop(ctx context.Context, budget int) error {
	if len(b.spec.Pooling) != 1 || b.spec.Pooling[0] != model.PoolMean || b.spec.OutputPooled || !b.spec.Normalize {
		return errors.New("the bare loop knows mean pooling with normalization alone")
	}
	order := make([]int, len(b.ids))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(len(b.ids[y]), len(b.ids[x])) })
	b.vectors = resize(b.vectors, len(b.ids)*b.spec.Dim)
	groups := make(chan []int, len(order))
	for len(order) > 0 {
		n := min(max(1, budget/len(b.ids[order[0]])), len(order))
		groups <- order[:n]
		order = order[n:]
	}
	close(groups)
	b.callers = resize(b.callers, *threads)
	failed := make([]error, *threads)
	var running sync.WaitGroup
	for i := range *threads {
		running.Go(func() {
			for group := range groups {
				if failed[i] = b.call(ctx, &b.callers[i], group); failed[i] != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return errors.Join(failed...)
}

func (b *bench) call(ctx context.Context, c *caller, group []int) error {
	length, dim := len(b.ids[group[0]]), b.spec.Dim
	n := len(group) * length
	c.ids, c.mask, c.types, c.hidden = resize(c.ids, n), resize(c.mask, n), resize(c.types, n), resize(c.hidden, n*dim)
	clear(c.ids)
	clear(c.mask)
	clear(c.types)
	for r, text := range group {
		for i, id := range b.ids[text] {
			c.ids[r*length+i], c.mask[r*length+i] = int64(id), 1
		}
	}
	shape := []int64{int64(len(group)), int64(length)}
	byName := map[string][]int64{b.spec.Inputs.IDs: c.ids, b.spec.Inputs.Mask: c.mask, b.spec.Inputs.Types: c.types}
	var inputs []runtime.Tensor
	for _, in := range b.model.Inputs() {
		inputs = append(inputs, runtime.Tensor{Type: engine.Int64, Shape: shape, Data: bytesOf(byName[in.Name])})
	}
	at := slices.IndexFunc(b.model.Outputs(), func(s engine.TensorSpec) bool { return s.Name == b.spec.Output })
	out := []runtime.Output{{Index: at, Tensor: runtime.Tensor{Type: engine.Float32, Shape: append(slices.Clone(shape), int64(dim)), Data: bytesOf(c.hidden)}}}
	if err := b.model.Run(ctx, inputs, out); err != nil {
		return err
	}
	for r, text := range group {
		v := b.vectors[text*dim:][:dim]
		clear(v)
		for i := range b.ids[text] {
			for d, x := range c.hidden[(r*length+i)*dim:][:dim] {
				v[d] += x
			}
		}
		unit(v)
	}
	return nil
}
