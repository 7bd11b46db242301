package scheduler_test

import (
	"reflect"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

func TestDecide(t *testing.T) {
	one := func(request engine.Resources, pending int) []scheduler.Class {
		return []scheduler.Class{{ID: "c", Request: request, Pending: pending}}
	}
	placed := func(count int, devices ...[]int) []scheduler.Placement {
		return []scheduler.Placement{{Class: "c", Node: "n", Count: count, Devices: devices, Bundle: -1}}
	}
	tests := []struct {
		name    string
		node    scheduler.Node
		classes []scheduler.Class
		want    []scheduler.Placement
		waiting []scheduler.Waiting
	}{
		{
			name:    "nothing pending",
			node:    scheduler.Node{Total: engine.Resources{CPU: 1}},
			classes: one(engine.Resources{CPU: 1}, 0),
		},
		{
			name:    "negative pending",
			node:    scheduler.Node{Total: engine.Resources{CPU: 1}},
			classes: one(engine.Resources{CPU: 1}, -1),
		},
		{
			name:    "more used than offered is nothing free",
			node:    scheduler.Node{Total: engine.Resources{CPU: 1}, Used: engine.Resources{CPU: 2}},
			classes: one(engine.Resources{CPU: 1}, 1),
			waiting: []scheduler.Waiting{{Class: "c", Count: 1, Reason: "all nodes are busy"}},
		},
		{
			name:    "sums of floating point",
			node:    scheduler.Node{Total: engine.Resources{CPU: 0.3}, Used: engine.Resources{CPU: 0.1 + 0.1}},
			classes: one(engine.Resources{CPU: 0.1}, 1),
			want:    placed(1),
		},
		{
			name:    "a byte too few",
			node:    scheduler.Node{Total: engine.Resources{MemoryBytes: 1<<40 - 1}},
			classes: one(engine.Resources{MemoryBytes: 1 << 40}, 1),
			waiting: []scheduler.Waiting{{
				Class: "c", Count: 1, Infeasible: true,
				Reason: "needs memory: 1TiB, the largest node has memory: 1TiB (1099511627775 bytes)",
			}},
		},
		{
			name:    "requests round up",
			node:    scheduler.Node{Total: engine.Resources{CPU: 1}},
			classes: one(engine.Resources{CPU: 0.33334}, 3),
			want:    placed(2),
			waiting: []scheduler.Waiting{{Class: "c", Count: 1, Reason: "all nodes are busy"}},
		},
		{
			name:    "offers round down",
			node:    scheduler.Node{Total: engine.Resources{CPU: 0.99999}},
			classes: one(engine.Resources{CPU: 1}, 1),
			waiting: []scheduler.Waiting{{Class: "c", Count: 1, Infeasible: true, Reason: "needs cpu: 1, the largest node has cpu: 0.9999"}},
		},
		{
			name:    "device memory rounds up to equal parts",
			node:    scheduler.Node{Total: engine.Resources{GPU: 2, GPUMemoryBytes: 20}},
			classes: one(engine.Resources{GPU: 2, GPUMemoryBytes: 21}, 1),
			waiting: []scheduler.Waiting{{
				Class: "c", Count: 1, Infeasible: true,
				Reason: "needs gpu_memory: 11B on one device, the largest device has gpu_memory: 10B",
			}},
		},
		{
			name:    "devices that the snapshot lists",
			node:    scheduler.Node{Total: engine.Resources{GPU: 3}, Used: engine.Resources{GPU: 1.2}, GPUs: []scheduler.GPU{{Free: 0.4}, {Free: 1}, {Free: 0.4}}},
			classes: one(engine.Resources{GPU: 0.6}, 3),
			want:    placed(1, []int{1}),
			waiting: []scheduler.Waiting{{Class: "c", Count: 2, Reason: "all nodes are busy"}},
		},
		{
			name:    "the fullest device that still fits",
			node:    scheduler.Node{Total: engine.Resources{GPU: 3}, GPUs: []scheduler.GPU{{Free: 1}, {Free: 0.5}, {Free: 0.3}}},
			classes: one(engine.Resources{GPU: 0.25}, 3),
			want:    placed(3, []int{2}, []int{1}, []int{1}),
		},
		{
			name:    "devices that it does not list are filled from the first",
			node:    scheduler.Node{Total: engine.Resources{GPU: 3}, Used: engine.Resources{GPU: 1.5}},
			classes: one(engine.Resources{GPU: 0.5}, 4),
			want:    placed(3, []int{1}, []int{2}, []int{2}),
			waiting: []scheduler.Waiting{{Class: "c", Count: 1, Reason: "all nodes are busy"}},
		},
		{
			name:    "a device that is missing from the list is not there",
			node:    scheduler.Node{Total: engine.Resources{GPU: 2}, GPUs: []scheduler.GPU{{Free: 1}}},
			classes: one(engine.Resources{GPU: 2}, 1),
			waiting: []scheduler.Waiting{{Class: "c", Count: 1, Reason: "all nodes are busy"}},
		},
		{
			name:    "a device's memory runs out first",
			node:    scheduler.Node{Total: engine.Resources{GPU: 2, GPUMemoryBytes: 20}, GPUs: []scheduler.GPU{{Free: 1, FreeMemoryBytes: 10}, {Free: 1, FreeMemoryBytes: 2}}},
			classes: one(engine.Resources{GPU: 0.1, GPUMemoryBytes: 4}, 5),
			want:    placed(2, []int{0}, []int{0}),
			waiting: []scheduler.Waiting{{Class: "c", Count: 3, Reason: "all nodes are busy"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.node.ID = "n"
			plan := scheduler.Decide(scheduler.Snapshot{Nodes: []scheduler.Node{tt.node}, Classes: tt.classes})
			if !reflect.DeepEqual(plan.Placements, tt.want) {
				t.Errorf("placements %+v, want %+v", plan.Placements, tt.want)
			}
			if !reflect.DeepEqual(plan.Waiting, tt.waiting) {
				t.Errorf("waiting %+v, want %+v", plan.Waiting, tt.waiting)
			}
		})
	}
}

func TestDecideNothing(t *testing.T) {
	if got := scheduler.Decide(scheduler.Snapshot{}); !reflect.DeepEqual(got, scheduler.Plan{}) {
		t.Errorf("the plan for nothing is %+v", got)
	}
}

func TestDecideDoesNotChangeItsInput(t *testing.T) {
	snapshot := func() scheduler.Snapshot {
		return scheduler.Snapshot{
			Nodes: []scheduler.Node{
				{ID: "b", Total: engine.Resources{CPU: 2, GPU: 1}, GPUs: []scheduler.GPU{{Free: 1}}},
				{ID: "a", Total: engine.Resources{CPU: 2}},
			},
			Classes: []scheduler.Class{
				{ID: "y", Pending: 5, Request: engine.Resources{CPU: 1}},
				{ID: "x", Pending: 5, Request: engine.Resources{GPU: 0.5}},
			},
		}
	}
	s := snapshot()
	scheduler.Decide(s)
	if want := snapshot(); !reflect.DeepEqual(s, want) {
		t.Errorf("the snapshot became %+v", s)
	}
}
