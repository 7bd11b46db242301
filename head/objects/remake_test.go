package objects_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
)

// remaker makes a bench whose jobs can make objects again.
func remaker(t *testing.T) *bench {
	b := newBench(t, 1)
	b.core = objects.NewCore(b.now, objects.Config{ClusterID: "c", Term: 1, LeaseTime: leaseTime, Remade: true, Remake: func(objects.Asked) {}})
	return b
}

// asked checks which objects were asked for since the last call, and of which jobs.
func (b *bench) asked(want ...string) {
	b.t.Helper()
	b.take()
	var got []string
	for _, a := range b.asks {
		got = append(got, fmt.Sprint(a.ID[0], a.Jobs))
	}
	b.asks = nil
	if !slices.Equal(got, want) {
		b.t.Fatalf("asked for %q, expected %q", got, want)
	}
}

func jobOwner(id string) engine.ObjectOwner { return engine.ObjectOwner{Kind: engine.OwnerJob, ID: id} }

func TestLostObjectIsAskedOfItsJob(t *testing.T) {
	b := remaker(t)
	a, z := b.store("a"), b.store("z")
	x, y, kept := objectOfAJob(1), objectOfAJob(2), objectOfAJob(3)
	owner := jobOwner("j1")
	owner.Expires = b.now.Add(time.Hour)
	a.put(x, owner, jobOwner("j2"))
	a.put(y, b.open('1'))
	z.put(kept, owner)
	b.calm()
	b.disconnect(a, true)
	b.asked() // Nobody asks for anything.
	b.answered(b.core.Wait(b.now, []engine.ObjectID{x, kept}, 1), noError, kept)
	b.asked() // One is enough.
	b.answered(b.core.Wait(b.now, []engine.ObjectID{y}, 1), engine.KindUnavailable)
	b.asked() // No job has it.

	first, second := b.core.Wait(b.now, []engine.ObjectID{x}, 1), b.core.Wait(b.now, []engine.ObjectID{x, kept}, 2)
	b.asked("1 [j1 j2]")
	b.waits(first)
	b.core.Remade(x, engine.Errorf(engine.KindConflict, "make object again", x.String(), "the input has changed"))
	b.answered(first, engine.KindConflict)
	b.answered(second, engine.KindConflict, kept)
	b.core.Remade(x, nil)
	b.asked()

	// Who asks next begins anew. What is made again has the end that the lost object had.
	third := b.core.Wait(b.now, []engine.ObjectID{x}, 1)
	b.asked("1 [j1 j2]")
	z.put(x, jobOwner("j1"))
	b.calm()
	b.answered(third, noError, x)
	b.core.Remade(x, nil)
	b.asked()
	for _, owner := range b.describe(x).GetOwners() {
		if (owner.GetExpireTime() != nil) != (owner.GetId() == "j1") {
			t.Errorf("an owner is %v", owner)
		}
	}
	b.now = b.now.Add(time.Minute)

	// What is waited for, and lost before the wait has ended, is asked for, and again if it is lost before that is heard of.
	b.connect(z)
	b.calm()
	fourth := b.core.Wait(b.now, []engine.ObjectID{x, objectOfAJob(9)}, 2)
	b.asked()
	b.disconnect(z, true)
	b.asked("1 [j1 j2]")
	b.core.Remade(x, nil)
	b.asked("1 [j1 j2]")
	b.core.Abandon(fourth)
}

func TestWatchedObjectIsAskedOfItsJob(t *testing.T) {
	b := remaker(t)
	a := b.store("a")
	x := objectOfAJob(1)
	a.put(x, jobOwner("j1"))
	b.calm()
	b.disconnect(a, true)
	for range 2 {
		b.core.Watch(b.now, []engine.ObjectID{x})
		b.asked("1 [j1]")
		b.heard()
		b.core.Remade(x, engine.Errorf(engine.KindConflict, "make object again", x.String(), "the input has changed"))
		b.heard("lost 1: the input has changed")
		b.core.Unwatch([]engine.ObjectID{x})
	}
}

// An id that looks like that of an output of a client's task is asked of the tasks first.
func TestLostOutputIsAskedOfTasksFirst(t *testing.T) {
	b := remaker(t)
	a := b.store("a")
	x := object(1)
	a.put(x, jobOwner("j1"))
	b.calm()
	number := b.core.Wait(b.now, []engine.ObjectID{x, objectOfAJob(2)}, 2)
	b.disconnect(a, true)
	b.heard("lost 1")
	b.asked()
	b.waits(number)
	b.core.GiveUp([]engine.ObjectID{x})
	b.asked("1 [j1]")
	b.core.GiveUp([]engine.ObjectID{x}) // It has said so already.
	b.waits(number)
	b.core.Remade(x, engine.Errorf(engine.KindConflict, "make object again", x.String(), "the input has changed"))
	b.answered(number, engine.KindConflict)
}

// objectOfAJob is an id that no task's output has.
func objectOfAJob(n byte) engine.ObjectID {
	id := engine.ObjectID{n}
	id[14] = 0xff
	return id
}
