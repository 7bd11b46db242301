package scheduler

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
)

// verdict is what can be said of a shape whatever is running.
type verdict struct {
	infeasible bool
	// reason is empty when an open node is large enough.
	reason string
}

// explain says why tasks of a class are left.
func (p *pass) explain(c *claim) Waiting {
	w := Waiting{Class: c.ID, Count: c.pending}
	if c.shape.verdict == nil {
		v := p.judge(c)
		c.shape.verdict = &v
	}
	if v := c.shape.verdict; v.reason != "" {
		w.Infeasible, w.Reason = v.infeasible, v.reason
		return w
	}
	w.Reason = "all nodes are busy"
	if !covers(p.least, c.shape) {
		w.Reason = "all nodes that are large enough are busy"
	}
	if c.kept >= 0 {
		w.KeptNode = p.members[c.kept].ID
		w.Reason += fmt.Sprintf("; node %s is kept for it", w.KeptNode)
		return w
	}
	for _, other := range p.keeps {
		if p.fitsNow(other.kept, c.shape) {
			w.Reason += fmt.Sprintf("; node %s is kept for %s, which holds nothing", p.members[other.kept].ID, other.ID)
			break
		}
	}
	return w
}

// judge finds out whether any node is large enough.
func (p *pass) judge(c *claim) verdict {
	s := c.shape
	if s.bad != "" {
		return verdict{infeasible: true, reason: s.bad}
	}
	if len(p.members) == 0 {
		return verdict{reason: "no node is connected"}
	}
	draining := 0
	for i := range p.members {
		if p.fitsIdle(i, s) {
			if !p.members[i].Unschedulable {
				return verdict{}
			}
			draining++
		}
	}
	switch {
	case draining == len(p.members):
		return verdict{reason: "all nodes are draining"}
	case draining > 0:
		return verdict{reason: "all nodes that are large enough are draining"}
	}
	for _, a := range s.amounts {
		var most int64
		for i := range p.members {
			most = max(most, p.idleOf(i)[a.dim])
		}
		switch {
		case most >= a.value:
		case most == 0:
			return verdict{true, "needs " + p.write(a, &c.Request) + ", no node has it"}
		case a.dim == dimDeviceMemory && p.gpu:
			return verdict{true, "needs " + p.write(a, &c.Request) + " on one device, the largest device has " + p.write(amount{a.dim, most}, nil)}
		default:
			return verdict{true, "needs " + p.write(a, &c.Request) + ", the largest node has " + p.write(amount{a.dim, most}, nil)}
		}
	}
	return verdict{true, "needs " + c.Request.String() + " on one node, no node has all of it"}
}

// write names an amount as the user wrote it; the request, where there is one, supplies what rounding would hide.
func (p *pass) write(a amount, asked *engine.Resources) string {
	var name, text string
	switch {
	case a.dim == dimCPU:
		name = "cpu"
	case a.dim == dimMemory:
		name, text = "memory", size(a.value)
	case p.gpu && a.dim == dimPart:
		name = "gpu"
	case p.gpu && a.dim == dimDevices:
		name, text = "gpu", strconv.FormatInt(a.value, 10)
	case p.gpu && a.dim == dimDeviceMemory:
		name, text = "gpu_memory", size(a.value)
	default:
		name = p.custom[a.dim-p.firstCustom]
		if asked != nil {
			text = strconv.FormatFloat(asked.Custom[name], 'f', -1, 64)
		}
	}
	if text == "" {
		text = number(a.value)
	}
	return name + ": " + text
}

// size writes bytes so that two different amounts never look alike.
func size(bytes int64) string {
	text := engine.FormatSize(bytes)
	if exact, err := engine.ParseSize(text); err == nil && exact == bytes {
		return text
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%d bytes)", text, bytes))
}
