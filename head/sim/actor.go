package sim

import "time"

// actor is a process: what happens to it while it is stopped happens when it goes on, and nothing happens to it once it is dead.
type actor struct {
	world  *world
	alive  bool
	frozen bool
	// deferred waits for it to go on.
	deferred []func()
}

// run lets something happen to the process.
func (a *actor) run(act func()) {
	switch {
	case !a.alive:
	case a.frozen:
		a.deferred = append(a.deferred, act)
	default:
		act()
	}
}

// stop is SIGSTOP for a while, and SIGCONT.
func (a *actor) stop(d time.Duration, name string) {
	if !a.alive || a.frozen {
		return
	}
	a.world.say("%s is stopped for %s", name, d)
	a.frozen = true
	a.world.after(d, func() {
		a.frozen = false
		a.world.say("%s goes on", name)
		deferred := a.deferred
		a.deferred = nil
		for _, act := range deferred {
			a.run(act)
		}
	})
}

// later lets something happen to the process after a while of its own.
func (a *actor) later(d time.Duration, act func()) {
	a.world.after(d, func() { a.run(act) })
}
