package objects

import (
	"context"
	"time"

	"github.com/f708428e/engine"
)

// Asked is a lost object that somebody asks for.
type Asked struct {
	ID engine.ObjectID
	// Jobs own it. One of them may have made it.
	Jobs []engine.JobID
	// Lost says how it was lost.
	Lost error
	// ByTask says that a task of a client may make it again, which knows of it.
	ByTask bool
}

// want has a lost object made again that a job may have made. It does nothing if that is under way, or the object can come back by itself.
func (c *Core) want(o *object) {
	if c.config.Remake == nil || o.departure == nil || o.checkpoint != "" || o.remaking || o.asked {
		return
	}
	asked := o.ask()
	if len(asked.Jobs) == 0 {
		return
	}
	o.asked = true
	c.events.Asked = append(c.events.Asked, asked)
	c.tell(o.id)
}

// ask describes a lost object to those who may make it again.
func (o *object) ask() Asked {
	asked := Asked{ID: o.id, Lost: lostError(o), ByTask: o.remaking}
	for _, owner := range o.owners {
		if owner.Kind == engine.OwnerJob {
			asked.Jobs = append(asked.Jobs, engine.JobID(owner.ID))
		}
	}
	return asked
}

// wantMissing wants those of some objects that are lost, unless count of them can be read.
func (c *Core) wantMissing(ids []engine.ObjectID, count int) {
	lost := false
	for _, id := range ids {
		o := c.objects[id]
		if o == nil {
			continue
		}
		if len(o.replicas) > 0 {
			count--
		}
		lost = lost || o.departure != nil
	}
	if !lost || count <= 0 {
		return
	}
	for _, id := range ids {
		if o := c.objects[id]; o != nil {
			c.want(o)
		}
	}
}

// Remade ends what an event has asked for. With an error, those who wait for the object hear of it, and whoever asks next begins anew. Without
// one there is a copy again, or was: if it is lost by now and still asked for, it is asked for again.
func (c *Core) Remade(id engine.ObjectID, err error) {
	o := c.objects[id]
	if o == nil || !o.asked {
		return
	}
	o.asked = false
	if err == nil {
		c.want(o)
		return
	}
	if c.watches[id] != nil {
		if c.events.News.Causes == nil {
			c.events.News.Causes = map[engine.ObjectID]error{}
		}
		c.events.News.Causes[id] = err
		c.notice(id, impossible)
	}
	if a := c.awaited[id]; a != nil {
		c.turn(a, impossible, err)
	}
}

// Remade ends what Config.Remake was told of; see Core.Remade.
func (d *Directory) Remade(id engine.ObjectID, err error) {
	d.do(func(core *Core, _ time.Time) { core.Remade(id, err) })
}

// Lost returns those of some objects that have no copy, no checkpoint, and an owner, with the jobs that own them. It first hears what
// connected stores have, and waits for that until ctx ends.
func (d *Directory) Lost(ctx context.Context, ids []engine.ObjectID) ([]Asked, error) {
	asked, err := d.request(func(core *Core, _ time.Time) ([]uint64, error) { return core.Refresh() })
	defer d.drop(asked)
	if err != nil {
		return nil, err
	}
	for _, r := range asked {
		select {
		case <-r.result: // A store that went away has nothing to tell.
		case <-ctx.Done():
			return nil, engine.WrapError("find objects", "", context.Cause(ctx))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Lost(ids), nil
}

// Lost returns those of some objects that have no copy and no checkpoint, with the jobs that own them.
func (c *Core) Lost(ids []engine.ObjectID) (lost []Asked) {
	for _, id := range ids {
		o := c.objects[id]
		if o == nil || o.departure == nil || o.checkpoint != "" {
			continue
		}
		lost = append(lost, o.ask())
	}
	return lost
}
