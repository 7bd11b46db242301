package objects

import (
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// session is a client's. It lives for a lease time after its last message.
type session struct {
	until time.Time
	// stream numbers the stream that keeps it alive; 0 if none has yet.
	stream uint64
}

// OpenSession begins or takes up a session, and returns the number of the stream that keeps it from now on. A session that has ended can
// be opened again, but while a store may still carry out the order to end it that is an error of kind engine.KindFenced.
func (c *Core) OpenSession(now time.Time, id string) (uint64, error) {
	if err := CheckSession(id); err != nil {
		return 0, err
	}
	s := c.sessions[id]
	if s == nil {
		if len(c.sessions) >= c.config.MaxSessions {
			return 0, engine.Errorf(engine.KindExhausted, "open session", id, "%d sessions are open already", len(c.sessions))
		}
		owner := engine.ObjectOwner{Kind: engine.OwnerSession, ID: id}
		if node, ok := c.mayStillEnd(owner); ok {
			return 0, engine.Errorf(engine.KindFenced, "open session", id, "it has ended, and node %s was told to end its references and has not answered", node).
				WithHint("open a session with another id")
		}
		s = &session{}
		c.sessions[id] = s
		c.reopen(now, owner)
	}
	s.until, s.stream = now.Add(c.config.LeaseTime), c.next()
	return s.stream, nil
}

// mayStillEnd returns a store that may carry out an order to end an owner at any time: one that was told, and has not answered. A lost
// one counts too until it is forgotten, since it may come back.
func (c *Core) mayStillEnd(owner engine.ObjectOwner) (engine.NodeID, bool) {
	for _, s := range c.stores {
		if o := s.orders[s.ending[owner]]; o != nil && o.carried {
			return s.id, true
		}
	}
	return "", false
}

// reopen lets a session own objects that has ended. Orders to end it that are still here would end what it puts from now on.
func (c *Core) reopen(now time.Time, owner engine.ObjectOwner) {
	c.ended.remove(owner)
	for _, s := range c.stores {
		if o := s.orders[s.ending[owner]]; o != nil && !o.carried {
			c.remove(now, s, o, nil)
		}
	}
}

// RenewSession says that a session's stream carried a message. It reports false if the session has ended or has another stream.
func (c *Core) RenewSession(now time.Time, id string, stream uint64) bool {
	s := c.sessions[id]
	if s == nil || s.stream != stream {
		return false
	}
	s.until = now.Add(c.config.LeaseTime)
	return true
}

// CloseSession ends a session whose client says goodbye on its stream.
func (c *Core) CloseSession(now time.Time, id string, stream uint64) {
	if s := c.sessions[id]; s != nil && s.stream == stream {
		c.endSession(now, id)
	}
}

func (c *Core) endSession(now time.Time, id string) {
	delete(c.sessions, id)
	c.events.News.EndedSessions = append(c.events.News.EndedSessions, id)
	c.EndOwner(now, engine.ObjectOwner{Kind: engine.OwnerSession, ID: id})
}

// CheckSession returns an error of kind engine.KindInvalidArgument unless id is one that a client may choose.
func CheckSession(id string) error {
	ok := len(id) == 32
	for _, r := range []byte(id) {
		ok = ok && (r >= '0' && r <= '9' || r >= 'a' && r <= 'f')
	}
	if !ok {
		return engine.Errorf(engine.KindInvalidArgument, "check session", "", "%q is not a session id: expected 32 hexadecimal digits", id)
	}
	return nil
}

// alive returns an error unless the session can own objects. A head that has just started takes the caller's word for a session.
func (c *Core) alive(now time.Time, owner engine.ObjectOwner) error {
	if owner.Kind != engine.OwnerSession {
		return nil
	}
	if err := CheckSession(owner.ID); err != nil {
		return err
	}
	if c.sessions[owner.ID] == nil {
		if !c.Learning(now) || c.ended.has(bare(owner)) {
			return engine.Errorf(engine.KindFenced, "check session", owner.ID, "the session is not open: it never was, or its client was silent for more than %s", c.config.LeaseTime).
				WithHint("open a session with another id")
		}
		c.sessions[owner.ID] = &session{until: now.Add(c.config.LeaseTime)}
	}
	return nil
}

// EndOwner ends all references of an owner, and those that stores may still tell of.
func (c *Core) EndOwner(now time.Time, owner engine.ObjectOwner) {
	owner = bare(owner)
	c.ended.add(now, owner)
	for _, id := range sortedIDs(c.owned[owner]) {
		o := c.owned[owner][id]
		if o == nil {
			continue
		}
		for _, r := range o.replicas {
			if contains(r.owners, owner) {
				c.endIn(r.store, owner)
			}
		}
		c.dropKept(now, o, owner)
	}
}

// dropKept ends a reference that no store has.
func (c *Core) dropKept(now time.Time, o *object, owner engine.ObjectOwner) {
	if !contains(o.kept, owner) {
		return
	}
	o.kept = slices.DeleteFunc(slices.Clone(o.kept), func(other engine.ObjectOwner) bool { return bare(other) == bare(owner) })
	if len(o.kept) == 0 && len(o.replicas) > 0 && o.primary() == nil {
		c.free(now, o)
		return
	}
	c.releaseKept(now, o)
}

// endIn orders a store to end an owner's references, unless it is ordered already.
func (c *Core) endIn(s *store, owner engine.ObjectOwner) {
	if s.ending[owner] == 0 {
		s.ending[owner] = c.give(s, &order{keep: true, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_EndOwner{
			EndOwner: &enginev1.EndOwnerOrder{Owner: rpc.OwnerToProto(owner)},
		}}})
	}
}

// endAgain ends the references of an owner which a store got while it carried out the order to end them: with a copy that it was to take.
func (c *Core) endAgain(s *store, owner engine.ObjectOwner) {
	if !c.ended.has(owner) {
		return
	}
	for _, o := range c.owned[owner] {
		if r := o.replica(s); r != nil && contains(r.owners, owner) {
			c.endIn(s, owner)
			return
		}
	}
}

// checkOwner acts on an owner that a store tells of: one that has ended is ended there too, and a session that nobody has heard of gets
// one lease time to show up.
func (c *Core) checkOwner(now time.Time, s *store, owner engine.ObjectOwner) {
	key := bare(owner)
	switch {
	case c.ended.has(key):
		c.endIn(s, key)
	case key.Kind == engine.OwnerSession && c.sessions[key.ID] == nil:
		c.sessions[key.ID] = &session{until: now.Add(c.config.LeaseTime)}
	}
}
