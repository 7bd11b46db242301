package sim

import (
	"time"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// stream is a connection between a worker and a head. What is sent arrives in order, or not at all: everything that is under way when it
// breaks is lost.
type stream struct {
	world  *world
	worker *worker
	head   *head
	// session is the head's number for it.
	session  uint64
	broken   bool
	up, down pipe
}

// keepAlive is how long it takes until an end notices that it hears nothing.
const keepAlive = 8 * time.Second

// lag returns how long a message takes.
func (w *world) lag() time.Duration {
	if !w.calm && w.chance(40) {
		return w.between(50*time.Millisecond, 2*time.Second)
	}
	return w.between(50*time.Microsecond, 3*time.Millisecond)
}

// toHead carries a report.
func (s *stream) toHead(report *enginev1.SyncRequest) {
	s.up.carry(func() { s.head.run(func() { s.head.hear(s, report) }) })
}

// toWorker carries an answer.
func (s *stream) toWorker(answer *enginev1.SyncResponse) {
	s.down.carry(func() { s.worker.run(func() { s.worker.take(s, answer) }) })
}

// newStream connects a worker to a head.
func newStream(v *worker, h *head) *stream {
	s := &stream{world: v.world, worker: v, head: h}
	open := func() bool { return !s.broken && h.alive }
	s.up = pipe{world: v.world, open: open, cut: func() bool { return v.mute }, giveUp: s.breakOff}
	s.down = pipe{world: v.world, open: open, cut: func() bool { return v.deaf }, giveUp: s.breakOff}
	return s
}

// pipe is one way of a connection: what is sent arrives in order.
type pipe struct {
	world *world
	// open reports whether the connection is there, cut whether its way is cut.
	open, cut func() bool
	// giveUp breaks the connection.
	giveUp  func(why string)
	waiting []message
	moving  bool
}

// message is something under way.
type message struct {
	sent    time.Time
	deliver func()
}

// carry delivers something after what went before it. While the way is cut it waits, as TCP repeats it, until the connection is given up.
func (p *pipe) carry(deliver func()) {
	p.waiting = append(p.waiting, message{p.world.now, deliver})
	if !p.moving {
		p.moving = true
		p.world.after(p.world.lag(), p.move)
	}
}

// move delivers what has arrived.
func (p *pipe) move() {
	p.moving = false
	if len(p.waiting) == 0 {
		return
	}
	first := p.waiting[0]
	pause := 100 * time.Millisecond
	switch {
	case !p.open():
		p.giveUp("the other end is gone")
		return
	case !p.cut():
		p.waiting = p.waiting[1:]
		first.deliver()
		pause = p.world.between(0, 200*time.Microsecond)
		if p.world.chance(10) {
			pause = p.world.lag()
		}
	case p.world.now.Sub(first.sent) > keepAlive:
		p.giveUp("keep-alive")
		return
	}
	if len(p.waiting) > 0 && !p.moving {
		p.moving = true
		p.world.after(pause, p.move)
	}
}

// breakOff ends a stream; both ends find out in their time.
func (s *stream) breakOff(why string) {
	if s.broken {
		return
	}
	s.broken = true
	s.world.say("the stream of %s to %s breaks: %s", s.worker.id, s.head.name, why)
	s.world.after(s.world.between(0, 50*time.Millisecond), func() {
		s.head.run(func() { s.head.lostStream(s) })
	})
	s.world.after(s.world.between(0, 50*time.Millisecond), func() {
		s.worker.run(func() { s.worker.lostStream(s) })
	})
}

// plague makes things go wrong for as long as faults come.
func (w *world) plague() {
	if w.calm {
		return
	}
	w.after(w.between(50*time.Millisecond, 4*time.Second), func() {
		if w.calm {
			return
		}
		w.mishap()
		w.plague()
	})
}

// mishap is one fault.
func (w *world) mishap() {
	victim := w.workers[w.random.IntN(len(w.workers))]
	leader := w.leader()
	switch w.random.IntN(12) {
	case 0:
		victim.die()
		w.addWorker()
	case 1, 2:
		victim.freeze(w.between(10*time.Millisecond, 15*time.Second))
	case 3, 4:
		if victim.stream != nil {
			victim.stream.breakOff("chance")
		}
	case 5:
		w.cut(victim, true, w.chance(2))
	case 6:
		w.cut(victim, w.chance(2), true)
	case 7:
		if leader != nil {
			leader.die()
		}
	case 8:
		if leader != nil {
			leader.freeze(w.between(10*time.Millisecond, 10*time.Second))
		}
	case 9:
		if leader != nil {
			leader.depose()
		}
	case 10:
		if leader != nil {
			leader.skew += w.between(0, 2*time.Hour) - time.Hour
			w.say("the clock of %s jumps", leader.name)
		}
	case 11:
		if victim.alive && !victim.draining && len(w.workers) < 12 {
			victim.leave()
			w.addWorker()
		}
	}
}

// cut parts a worker from everybody, in one direction or both.
func (w *world) cut(victim *worker, mute, deaf bool) {
	victim.mute, victim.deaf = victim.mute || mute, victim.deaf || deaf
	w.say("%s is cut off (mute %v, deaf %v)", victim.id, victim.mute, victim.deaf)
	w.after(w.between(100*time.Millisecond, 20*time.Second), func() {
		victim.mute, victim.deaf = false, false
	})
}

// heal makes everything work again.
func (w *world) heal() {
	for _, v := range w.workers {
		v.mute, v.deaf = false, false
	}
}

// leader returns the head that leads, or nil.
func (w *world) leader() *head {
	for _, h := range w.heads {
		if h.alive && h.leads {
			return h
		}
	}
	return nil
}
