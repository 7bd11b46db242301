package objects

import (
	"time"

	"github.com/f708428e/engine"
)

// News is what a subscriber hears: of objects that it watches, of outputs of tasks that are lost, and of sessions that have ended.
type News struct {
	// Known are watched objects that can be read.
	Known []Location
	// Unknown are watched objects of which nobody knows anything. They may still come, and are known then.
	Unknown []engine.ObjectID
	// Lost are objects whose every copy is gone and that have no checkpoint, if they are watched or a task's output; Causes says of some of
	// them why they cannot be made again.
	Lost   []engine.ObjectID
	Causes map[engine.ObjectID]error
	// Freed are outputs of tasks that nobody owns any more, or that were deleted.
	Freed []engine.ObjectID
	// EndedSessions have ended, by their clients or because those were silent.
	EndedSessions []string
}

// Location is where an object can be read.
type Location struct {
	ID        engine.ObjectID
	SizeBytes int64
	// Nodes hold copies, the primary one first.
	Nodes []engine.NodeID
}

func (n *News) isEmpty() bool {
	return len(n.Known)+len(n.Unknown)+len(n.Lost)+len(n.Freed)+len(n.EndedSessions) == 0
}

// watch is an object that the subscriber waits for.
type watch struct {
	// said is what it has heard.
	said verdict
	// deferred says that it has not heard yet that nobody knows the object, because a store may still tell of it.
	deferred bool
}

// Watch makes the core tell what becomes of objects, beginning with what is known now, until each is known for the first time or
// Unwatch. Objects that have a checkpoint alone are brought back, lost outputs of jobs made again.
func (c *Core) Watch(now time.Time, ids []engine.ObjectID) {
	for _, id := range ids {
		w := &watch{}
		c.watches[id] = w
		if o := c.objects[id]; o != nil {
			c.want(o)
		}
		v, _ := c.judge(id)
		switch {
		case v != absent:
			c.notice(id, v)
		case c.Learning(now):
			w.deferred = true
		case c.objects[id] == nil:
			c.events.News.Unknown = append(c.events.News.Unknown, id)
		}
		if o := c.objects[id]; o != nil {
			c.bringBack(now, o)
		}
	}
}

// Unwatch ends watches.
func (c *Core) Unwatch(ids []engine.ObjectID) {
	for _, id := range ids {
		delete(c.watches, id)
	}
}

// GiveUp says of lost objects that they are not made again: who waits for them hears so.
func (c *Core) GiveUp(ids []engine.ObjectID) {
	for _, id := range ids {
		if o := c.objects[id]; o != nil && o.remaking {
			o.remaking = false
			if c.awaited[id] != nil || c.watches[id] != nil {
				c.want(o)
			}
			c.tell(id)
		}
	}
}

// notice tells the subscriber of a change of a watched object.
func (c *Core) notice(id engine.ObjectID, v verdict) {
	w := c.watches[id]
	if w == nil || v == w.said {
		return
	}
	w.said, w.deferred = v, false
	switch v {
	case ready:
		delete(c.watches, id)
		c.events.News.Known = append(c.events.News.Known, c.locate(id))
	case impossible:
		if c.objects[id] == nil { // It was deleted, or freed.
			c.events.News.Unknown = append(c.events.News.Unknown, id)
		} else {
			c.lost(id)
		}
	case absent:
	}
}

// lost tells the subscriber of an object that is gone.
func (c *Core) lost(id engine.ObjectID) { c.events.News.Lost = append(c.events.News.Lost, id) }

// tellFreed tells the subscriber of an object that is not wanted any more.
func (c *Core) tellFreed(id engine.ObjectID) {
	if _, _, made := id.Producer(); made {
		c.events.News.Freed = append(c.events.News.Freed, id)
	}
}

// endLearning tells of the watched objects that no store has told of.
func (c *Core) endLearning(now time.Time) {
	if c.learned || c.Learning(now) {
		return
	}
	c.learned = true
	for _, id := range sortedIDs(c.watches) {
		if w := c.watches[id]; w.deferred {
			w.deferred = false
			if c.objects[id] == nil {
				c.events.News.Unknown = append(c.events.News.Unknown, id)
			}
		}
	}
}

// locate says where an object is that can be read.
func (c *Core) locate(id engine.ObjectID) Location {
	o := c.objects[id]
	at := Location{ID: id, SizeBytes: o.sizeBytes}
	primary := o.primary()
	if primary != nil {
		at.Nodes = append(at.Nodes, primary.store.id)
	}
	for _, r := range o.replicas {
		if r != primary {
			at.Nodes = append(at.Nodes, r.store.id)
		}
	}
	return at
}

// Locate says where objects are; those that cannot be read are left out.
func (c *Core) Locate(ids []engine.ObjectID) (found []Location) {
	for _, id := range ids {
		if v, _ := c.judge(id); v == ready {
			found = append(found, c.locate(id))
		}
	}
	return found
}

// Subscribe makes a function hear all news from now on, one after the other and in order. It is called without a lock held, may call the
// directory, and must not block for long. There is one subscriber at most.
func (d *Directory) Subscribe(hear func(News)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hear = hear
}

// Watch tells the subscriber what becomes of objects; see Core.Watch.
func (d *Directory) Watch(ids []engine.ObjectID) {
	d.do(func(core *Core, now time.Time) { core.Watch(now, ids) })
}

// Unwatch ends watches.
func (d *Directory) Unwatch(ids []engine.ObjectID) {
	d.do(func(core *Core, _ time.Time) { core.Unwatch(ids) })
}

// GiveUp says of lost objects that they are not made again; see Config.Remade.
func (d *Directory) GiveUp(ids []engine.ObjectID) {
	d.do(func(core *Core, _ time.Time) { core.GiveUp(ids) })
}

// Locate says where objects are; those that cannot be read are left out.
func (d *Directory) Locate(ids []engine.ObjectID) []Location {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Locate(ids)
}

// CheckSession returns an error of kind engine.KindFenced unless a session is open. A head that has just started takes the caller's word
// for it, and gives the session a lease time.
func (d *Directory) CheckSession(id string) (err error) {
	d.do(func(core *Core, now time.Time) {
		err = core.alive(now, engine.ObjectOwner{Kind: engine.OwnerSession, ID: id})
	})
	return err
}

// spread passes news on in their order. If somebody does so already, that one goes on with these.
func (d *Directory) spread() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spreading || d.hear == nil {
		return
	}
	d.spreading = true
	for len(d.news) > 0 {
		news := d.news
		d.news = nil
		d.mu.Unlock()
		for _, n := range news {
			d.hear(n)
		}
		d.mu.Lock()
	}
	d.spreading = false
}
