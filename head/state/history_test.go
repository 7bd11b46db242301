package state_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The history is of registers: the priorities of queues. They are written, written if they have a certain value, and read.
type (
	input struct {
		register string
		kind     string // "write", "swap", or "read"
		from, to int32
	}
	output struct {
		value   int32
		swapped bool
		// unknown says that the operation may or may not have come about.
		unknown bool
	}
)

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byRegister := map[string][]porcupine.Operation{}
		for _, operation := range history {
			register := operation.Input.(input).register
			byRegister[register] = append(byRegister[register], operation)
		}
		var parts [][]porcupine.Operation
		for _, part := range byRegister {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return int32(0) },
	Step: func(before, in, out any) (bool, any) {
		value, i, o := before.(int32), in.(input), out.(output)
		switch i.kind {
		case "write":
			return true, i.to
		case "swap":
			if o.unknown {
				if value == i.from {
					return true, i.to
				}
				return true, value
			}
			if o.swapped != (value == i.from) {
				return false, value
			}
			if o.swapped {
				return true, i.to
			}
			return true, value
		default:
			return o.value == value, value
		}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func queueSet(name string, priority int32) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueSet{QueueSet: &enginev1.QueueSet{Queue: &enginev1.Queue{Name: name, Priority: priority}}}}
}

// recorder collects what clients did and saw.
type recorder struct {
	began time.Time

	mu      sync.Mutex
	history []porcupine.Operation
}

// do does one operation at a store, and records it unless it certainly has not come about. lone says that nobody else can lead, so that
// View is as good as Read.
func (r *recorder) do(ctx context.Context, client int, store *state.Store, in input, lone bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	call := time.Since(r.began).Nanoseconds()
	var out output
	var err error
	look := func(s *state.State) { out.value = s.Queue(in.register).GetPriority() }
	switch in.kind {
	case "write":
		err = store.Propose(ctx, queueSet(in.register, in.to))
	case "swap":
		out.swapped = true
		err = store.ProposeIf(ctx, func(s *state.State) error {
			if s.Queue(in.register).GetPriority() != in.from {
				return engine.Errorf(engine.KindConflict, "swap", in.register, "another value")
			}
			return nil
		}, queueSet(in.register, in.to))
		if engine.KindOf(err) == engine.KindConflict && err != nil {
			out.swapped, err = false, nil
		}
	default:
		if lone {
			store.View(look)
			break
		}
		err = store.Read(ctx, look)
	}
	end := time.Since(r.began).Nanoseconds()
	switch {
	case err == nil:
	case rpc.IsNotLeader(err) != nil, in.kind == "read":
		return
	default:
		out.unknown, end = true, 1<<62
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

func (r *recorder) check(t *testing.T) {
	t.Helper()
	known := 0
	for _, operation := range r.history {
		if !operation.Output.(output).unknown {
			known++
		}
	}
	t.Logf("%d operations, %d of them with a known outcome", len(r.history), known)
	if known < 20 {
		t.Fatal("too few to mean anything")
	}
	result, info := porcupine.CheckOperationsVerbose(registers, r.history, time.Minute)
	if result == porcupine.Ok {
		return
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("history-%d.html", time.Now().UnixNano())) //nolint:usetesting // It is to outlive the test.
	check(t, porcupine.VisualizePath(registers, info, file))
	t.Fatalf("the history is not linearizable (%s): see %s", result, file)
}

// clients keep doing operations at random heads until ctx ends.
func (r *recorder) clients(ctx context.Context, seed uint64, count int, pick func(*rand.Rand) *state.Store, lone bool) {
	var all sync.WaitGroup
	for client := range count {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(client)))
			for value := int32(1); ctx.Err() == nil; value++ {
				in := input{register: "q" + strconv.Itoa(random.IntN(4)), kind: "read", from: int32(random.IntN(4)), to: int32(random.IntN(4))}
				switch random.IntN(4) {
				case 0:
					in.kind = "write"
				case 1:
					in.kind = "swap"
				}
				r.do(context.WithoutCancel(ctx), client, pick(random), in, lone)
				tick(ctx) // A checker's work grows fast with what goes on at a time.
			}
		})
	}
	all.Wait()
}

// TestHistoriesOfThreeHeads records what clients see of three heads that crash, are cut off, and hand over, and checks that there is one
// order of all operations that explains it.
func TestHistoriesOfThreeHeads(t *testing.T) { historiesOfThreeHeads(t, 1, 2*time.Second) }

func TestLongHistoriesOfThreeHeads(t *testing.T) {
	testenv.Full(t)
	historiesOfThreeHeads(t, 12, 8*time.Second)
}

func historiesOfThreeHeads(t *testing.T, rounds int, length time.Duration) {
	for range rounds {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 99))
		c := newCluster(t, "a", "b", "c")
		r := &recorder{began: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), length)
		var all sync.WaitGroup
		all.Go(func() {
			r.clients(ctx, seed, 6, func(random *rand.Rand) *state.Store { return c.store(string(rune('a' + random.IntN(3)))) }, false)
		})
		for ctx.Err() == nil {
			name := string(rune('a' + random.IntN(3)))
			if random.IntN(2) == 0 {
				name = c.leader()
			}
			pause(ctx, time.Duration(1+random.IntN(3))*patience)
			switch random.IntN(3) {
			case 0:
				c.crash(name)
			case 1:
				c.cutOff(name, true)
				pause(ctx, time.Duration(random.IntN(4))*patience)
				c.cutOff(name, false)
			case 2:
				_ = c.store(name).HandOver(ctx)
			}
		}
		cancel()
		all.Wait()
		c.agree()
		r.check(t)
	}
}

// pause lets the clients work for a while between two faults.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// TestHistoryOfOneHead is the same for a head alone, which crashes; View is then enough to read.
func TestHistoryOfOneHead(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := newCluster(t, "a")
	r := &recorder{began: time.Now()}
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		r.clients(ctx, seed, 6, func(*rand.Rand) *state.Store { return c.store("a") }, true)
		cancel()
		// Between two crashes nobody looks: a head that has not begun to lead shows what it has applied, which may not be all.
		c.crash("a")
		lead(t, c.store("a"))
		seed++
	}
	r.check(t)
}
