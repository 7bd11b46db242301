package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rule says what the packages that match from may import. A pattern is a folder, or a folder with "/..." for it and
// everything below; "." is the root package, "..." is all.
type rule struct {
	from []string
	// except are packages that match from and are free of this rule.
	except []string
	// std allows nothing but the standard library and packages of this module.
	std bool
	// only lists the packages of this module that may be imported directly; nil allows all.
	only []string
	// never lists packages of this module that may not be reached at all, through others either.
	never []string
	// neverPaths lists prefixes of import paths that may not be reached.
	neverPaths []string
	why        string
}

var ours = []string{}

// rules is the table of the house style, row by row. Test files are free: what a test imports reaches no user.
var rules = []rule{
	{
		from: []string{"."}, std: true, only: ours,
		why: "the root is the vocabulary that everything speaks, so whatever it imports, everybody imports",
	},
	{
		from: []string{"proto/..."}, only: []string{"proto/..."},
		why: "generated code knows the wire and nothing of ours, so that anyone can use it",
	},
	{
		from: []string{"scheduler"}, std: true, only: []string{"."},
		neverPaths: []string{"log", "net", "os", "sync", "context", "math/rand", "crypto/rand"},
		why:        "decisions are pure: the same snapshot gives the same plan, so that they can be replayed from a file",
	},
	{
		from: []string{"blob/..."}, only: []string{".", "blob/..."},
		why: "storage serves every layer, so it may depend on none",
	},
	{
		from: []string{"tokenizer/..."}, only: []string{".", "tokenizer/..."},
		why: "a tokenizer is useful alone, and depends on no other layer",
	},
	{
		from: []string{"internal/expression/..."}, only: []string{".", "internal/notation"},
		why: "expressions are useful alone, and depend on no other layer",
	},
	{
		from: []string{"objectstore/..."}, never: []string{"head/...", "worker/...", "scheduler/...", "runtime/...", "node/..."},
		why: "the store keeps objects and does not know who makes them or where they run",
	},
	{
		from: []string{"runtime/..."}, never: []string{"head/...", "scheduler/...", "worker/...", "node/..."},
		why: "an executor is driven by its worker and decides nothing",
	},
	{
		from: []string{"dataset/..."}, never: []string{"head/...", "worker/...", "scheduler/...", "runtime/...", "node/..."},
		why: "the head plans with sources and the worker reads them, so they may know neither",
	},
	{
		from: []string{"model/..."}, never: []string{"head/...", "worker/...", "node/..."},
		why: "models are described the same way on both sides of the protocol",
	},
	{
		from: []string{"worker/..."}, never: []string{"head/...", "scheduler/...", "node/..."},
		why: "worker and head meet in the protocol alone, so that either can be replaced, restarted and tested without the other",
	},
	{
		from: []string{"head/..."}, never: []string{"worker/...", "node/...", "runtime/..."},
		why: "head and worker meet in the protocol alone, and the head never runs a user's work",
	},
	{
		from: []string{"client/..."}, never: []string{"head/...", "worker/...", "scheduler/...", "runtime/...", "node/..."},
		why: "a user's program links the client, not the engine",
	},
	{
		from: []string{"internal/jobplan/..."}, never: []string{"runtime/...", "head/...", "worker/..."},
		why: "a plan is shared by head and worker, and is made without running anything",
	},
	{
		from:  []string{"internal/rpc/...", "internal/lifecycle/...", "internal/fdstream/...", "internal/raftnet/...", "internal/security/...", "internal/gossip/...", "internal/cgroup/..."},
		never: []string{"head/...", "worker/...", "scheduler/...", "runtime/...", "dataset/...", "node/..."},
		why:   "shared machinery lies below the parts that share it",
	},
	{
		from: []string{"..."}, except: []string{"runtime/onnx/...", "node/...", "cmd/...", "examples/...", "bench/...", "internal/testcluster/...", "internal/e2e/..."},
		never: []string{"runtime/onnx/..."}, neverPaths: []string{"github.com/yalue/onnxruntime_go"},
		why: "only node, and through it cmd, links the ONNX binding, so that everything else builds without cgo (runtime/fake stands in)",
	},
	{
		from: []string{"..."}, except: []string{"cmd/...", "node/...", "examples/...", "bench/...", "internal/testcluster/...", "internal/e2e/...", "internal/lint/..."},
		never: []string{"node/...", "cmd/...", "internal/testcluster/..."},
		why:   "assembly stands above all parts; a part that needs it is itself assembly",
	},
}

func match(pattern, dir string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == base || strings.HasPrefix(dir, base+"/")
	}
	return dir == pattern
}

func matchAny(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, dir) })
}

// edge is one import by the files of a package that are not tests.
type edge struct{ imported, at string }

func (m *module) edges(dir string) (all []edge) {
	p := m.packages[dir]
	if p == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, s := range p.sources {
		if s.test {
			continue
		}
		for imported, pos := range s.imports {
			if !seen[imported] {
				seen[imported] = true
				all = append(all, edge{imported, m.at(pos)})
			}
		}
	}
	slices.SortFunc(all, func(a, b edge) int { return strings.Compare(a.imported, b.imported) })
	return all
}

// checkImports returns the violations of the rules.
func checkImports(m *module, rules []rule) (found []string) {
	for _, r := range rules {
		for _, dir := range m.dirs() {
			if !matchAny(r.from, dir) || matchAny(r.except, dir) {
				continue
			}
			report := func(format string, args ...any) {
				found = append(found, fmt.Sprintf(format, args...)+": "+r.why)
			}
			for _, e := range m.edges(dir) {
				to, local := m.local(e.imported)
				switch {
				case local && r.only != nil && !matchAny(r.only, to):
					report("%s: %s may not import %s", e.at, dir, to)
				case !local && r.std && !standard(e.imported):
					report("%s: %s may import only the standard library, not %s", e.at, dir, e.imported)
				}
			}
			m.walk(dir, func(e edge, to string, local bool, chain string) {
				if local && matchAny(r.never, to) {
					report("%s: %s may not reach %s (%s)", e.at, dir, to, chain)
				}
				for _, prefix := range r.neverPaths {
					// What the root imports is its own matter, as everything imports it.
					if !local && match(prefix+"/...", e.imported) && !strings.HasSuffix(chain, m.path+" -> "+e.imported) {
						report("%s: %s may not reach %s (%s)", e.at, dir, e.imported, chain)
					}
				}
			})
		}
	}
	return found
}

// walk visits every import that can be reached from a package, each once, with the chain of packages that leads there.
func (m *module) walk(dir string, visit func(e edge, to string, local bool, chain string)) {
	seen := map[string]bool{}
	var from func(dir, chain string)
	from = func(dir, chain string) {
		for _, e := range m.edges(dir) {
			if seen[e.imported] {
				continue
			}
			seen[e.imported] = true
			to, local := m.local(e.imported)
			visit(e, to, local, chain+" -> "+e.imported)
			if local {
				from(to, chain+" -> "+e.imported)
			}
		}
	}
	from(dir, strings.TrimSuffix(m.path+"/"+dir, "/."))
}

func TestImports(t *testing.T) {
	for _, v := range checkImports(root(t), rules) {
		t.Error(v)
	}
}
