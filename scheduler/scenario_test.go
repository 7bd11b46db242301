package scheduler_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the traces in testdata from what the scheduler does now")

// TestScenarios runs the files in testdata. A line is a command; what it prints follows, indented by two spaces, and is compared
// with the file. After a change of policy run `go test ./scheduler -run Scenarios -rewrite` and read the difference.
//
//	node ID cpu=4 memory=8GiB gpu=2 gpu_memory=16GiB NAME=1    connects a node; NAME is a custom resource, label.NAME=x a label,
//	                                                           operators=a,b what it knows, model=DIGEST weights that it has loaded
//	class ID pending=10 cpu=1 order=1                          adds a class; queue=, priority=, operator=, label.NAME=, node=, soft_node=,
//	                                                           prefer=a,b, spread=yes, group=, bundle=, model=DIGEST, weights=4GiB,
//	                                                           gpu_weights=4GiB, preemptible=yes
//	queue NAME weight=2 priority=1 cpu=8                       adds a queue; resources are its quota
//	group ID strategy=PACK bundle=cpu:2,gpu:1 bundle=cpu:1     asks for a placement group; queue=, label.NAME=
//	pending ID N                                               makes N tasks pending
//	overdue ID                                                 a class or group has waited for too long
//	limit N                                                    bounds the placements of a decision
//	drain ID | disconnect ID                                   a node drains, or goes away with its tasks, which become pending
//	suspect ID | hear ID                                       a node seems to be gone, or is there after all
//	finish CLASS NODE N                                        ends N tasks
//	leave                                                      ends what was taken back
//	remove GROUP                                               gives a group's bundles up
//	decide                                                     prints the plan and grants it
//	nodes                                                      prints what each node holds
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, old)
			switch {
			case bytes.Equal(got, old):
			case *rewrite:
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("%s has another trace (-rewrite accepts it):\n%s", file, difference(string(old), string(got)))
			}
		})
	}
}

// play runs a scenario and returns the file as it should be.
func play(t *testing.T, file []byte) []byte {
	t.Helper()
	var c cluster
	var out bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(file))
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&out, line)
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if err := c.command(&out, words); err != nil {
			t.Fatalf("line %d: %s: %v", number, line, err)
		}
	}
	return out.Bytes()
}

func (c *cluster) command(out *bytes.Buffer, words []string) error {
	switch verb, args := words[0], words[1:]; verb {
	case "node":
		n := &simNode{id: engine.NodeID(args[0]), labels: map[string]string{}}
		c.nodes = append(c.nodes, n)
		return eachPair(args[1:], n.set)
	case "class":
		k := &scheduler.Class{ID: args[0], Bundle: -1}
		c.classes = append(c.classes, k)
		return eachPair(args[1:], func(key, value string) error { return setClass(k, key, value) })
	case "queue":
		c.queues = append(c.queues, scheduler.Queue{Name: args[0]})
		return eachPair(args[1:], func(key, value string) error { return setQueue(&c.queues[len(c.queues)-1], key, value) })
	case "group":
		c.groups = append(c.groups, scheduler.Group{ID: args[0]})
		return eachPair(args[1:], func(key, value string) error { return setGroup(&c.groups[len(c.groups)-1], key, value) })
	case "limit":
		n, err := strconv.Atoi(args[0])
		c.placements = n
		return err
	case "leave":
		c.leave()
		return nil
	case "remove":
		c.removeGroup(args[0])
		return nil
	case "pending":
		n, err := strconv.Atoi(args[1])
		c.class(args[0]).Pending += n
		return err
	case "overdue":
		for i := range c.groups {
			if c.groups[i].ID == args[0] {
				c.groups[i].Overdue = true
				return nil
			}
		}
		c.class(args[0]).Overdue = true
		return nil
	case "drain", "suspect":
		n := c.node(engine.NodeID(args[0]))
		n.drain, n.silent = true, verb == "suspect"
		return nil
	case "hear":
		n := c.node(engine.NodeID(args[0]))
		n.drain, n.silent = false, false
		return nil
	case "disconnect":
		n := c.node(engine.NodeID(args[0]))
		for _, l := range n.leases {
			k := c.class(l.class)
			k.Running, k.Pending = k.Running-1, k.Pending+1
		}
		c.nodes = slices.DeleteFunc(c.nodes, func(m *simNode) bool { return m == n })
		return nil
	case "finish":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		if ended := c.finish(args[0], engine.NodeID(args[1]), n); ended != n {
			return fmt.Errorf("only %d are running", ended)
		}
		return nil
	case "decide":
		plan := scheduler.Decide(c.snapshot())
		writePlan(out, plan)
		return c.apply(plan)
	case "nodes":
		for _, n := range c.nodes {
			var held engine.Resources
			for _, l := range n.leases {
				if l.bundle == nil {
					held = sum(held, l.request)
				}
			}
			for _, b := range n.bundles {
				held = sum(held, b.total)
			}
			for _, bytes := range n.models {
				held.MemoryBytes += bytes
			}
			fmt.Fprintf(out, "  %s holds %s\n", n.id, held)
		}
		return nil
	default:
		return fmt.Errorf("unknown command %q", verb)
	}
}

func writePlan(out *bytes.Buffer, plan scheduler.Plan) {
	if len(plan.Placements)+len(plan.Waiting)+len(plan.Groups)+len(plan.GroupsWaiting) == 0 {
		fmt.Fprintln(out, "  nothing to do")
	}
	for _, g := range plan.Groups {
		fmt.Fprintf(out, "  place group %s on %v", g.Group, g.Nodes)
		if slices.ContainsFunc(g.Devices, func(d []int) bool { return d != nil }) {
			fmt.Fprintf(out, " devices %v", g.Devices)
		}
		fmt.Fprintln(out)
	}
	for _, p := range plan.Placements {
		fmt.Fprintf(out, "  place %d of %s on %s", p.Count, p.Class, p.Node)
		if p.Bundle >= 0 {
			fmt.Fprintf(out, " bundle %d", p.Bundle)
		}
		if p.Devices != nil {
			fmt.Fprintf(out, " devices %v", p.Devices)
		}
		fmt.Fprintln(out)
	}
	for _, w := range plan.Waiting {
		fmt.Fprintf(out, "  %s %d of %s: %s\n", waits(w), w.Count, w.Class, w.Reason)
	}
	for _, w := range plan.GroupsWaiting {
		fmt.Fprintf(out, "  %s group %s: %s\n", waits(w), w.Class, w.Reason)
	}
	for _, x := range plan.Preemptions {
		fmt.Fprintf(out, "  take back %d of %s on %s for %s\n", x.Count, x.Class, x.Node, x.For)
	}
	if plan.More {
		fmt.Fprintln(out, "  more")
	}
}

func waits(w scheduler.Waiting) string {
	if w.Infeasible {
		return "infeasible"
	}
	return "wait"
}

func (n *simNode) set(key, value string) error {
	if label, ok := strings.CutPrefix(key, "label."); ok {
		n.labels[label] = value
		return nil
	}
	switch key {
	case "operators":
		n.operators = strings.Split(value, ",")
	case "model":
		n.models = map[string]int64{value: 0}
	default:
		return setAmount(&n.total, key, value)
	}
	return nil
}

func setClass(k *scheduler.Class, key, value string) (err error) {
	if label, ok := strings.CutPrefix(key, "label."); ok {
		if k.Selector == nil {
			k.Selector = map[string]string{}
		}
		k.Selector[label] = value
		return nil
	}
	switch key {
	case "pending":
		k.Pending, err = strconv.Atoi(value)
	case "order":
		k.Order, err = strconv.ParseInt(value, 10, 64)
	case "queue":
		k.Queue = value
	case "priority":
		k.Priority, err = strconv.Atoi(value)
	case "operator":
		k.Operator = value
	case "node":
		k.Node = engine.NodeID(value)
	case "soft_node":
		k.Node, k.Soft = engine.NodeID(value), true
	case "prefer":
		for id := range strings.SplitSeq(value, ",") {
			k.Prefer = append(k.Prefer, engine.NodeID(id))
		}
	case "spread":
		k.Spread = true
	case "group":
		k.Group = value
	case "bundle":
		k.Bundle, err = strconv.Atoi(value)
	case "model":
		k.Weights.Digest = value
	case "weights":
		k.Weights.Bytes, err = engine.ParseSize(value)
	case "gpu_weights":
		k.Weights.GPUBytes, err = engine.ParseSize(value)
	case "preemptible":
		k.Preemptible = true
	default:
		err = setAmount(&k.Request, key, value)
	}
	return err
}

func setQueue(q *scheduler.Queue, key, value string) (err error) {
	switch key {
	case "weight":
		q.Weight, err = strconv.ParseFloat(value, 64)
	case "priority":
		q.Priority, err = strconv.Atoi(value)
	default:
		err = setAmount(&q.Quota, key, value)
	}
	return err
}

func setGroup(g *scheduler.Group, key, value string) error {
	if label, ok := strings.CutPrefix(key, "label."); ok {
		g.Selector = map[string]string{label: value}
		return nil
	}
	switch key {
	case "strategy":
		g.Strategy = engine.PlacementStrategy(value)
	case "queue":
		g.Queue = value
	case "bundle":
		g.Bundles = append(g.Bundles, engine.Resources{})
		return eachPair(strings.Split(strings.ReplaceAll(value, ":", "="), ","), func(key, value string) error {
			return setAmount(&g.Bundles[len(g.Bundles)-1], key, value)
		})
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

func eachPair(words []string, set func(key, value string) error) error {
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%q is not key=value", w)
		}
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func setAmount(r *engine.Resources, key, value string) (err error) {
	switch key {
	case "cpu":
		r.CPU, err = strconv.ParseFloat(value, 64)
	case "gpu":
		r.GPU, err = strconv.ParseFloat(value, 64)
	case "memory":
		r.MemoryBytes, err = engine.ParseSize(value)
	case "gpu_memory":
		r.GPUMemoryBytes, err = engine.ParseSize(value)
	default:
		if r.Custom == nil {
			r.Custom = map[string]float64{}
		}
		r.Custom[key], err = strconv.ParseFloat(value, 64)
	}
	return err
}

// difference shows the first line that differs, with what surrounds it.
func difference(old, got string) string {
	a, b := strings.Split(old, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	part := func(lines []string) string { return strings.Join(lines[max(0, i-3):min(len(lines), i+6)], "\n") }
	return fmt.Sprintf("line %d\n--- file\n%s\n--- now\n%s", i+1, part(a), part(b))
}
