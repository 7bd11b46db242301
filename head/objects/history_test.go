package objects_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestRandomHistories lets clients, stores, and heads come and go at random while objects are put, copied, owned, released, pinned,
// checkpointed, and deleted. Whenever all is calm it checks that the directory says what the stores have, that every object that
// somebody owns and that any store still has is there with all its owners and one primary copy, that nothing else is, that every
// order was carried out, and that every wait was answered that could be; in the end, that everything is forgotten.
func TestRandomHistories(t *testing.T) { runHistories(t, 0, 100) }

// TestManyRandomHistories runs more of them.
func TestManyRandomHistories(t *testing.T) {
	testenv.Full(t)
	runHistories(t, 100, 3000)
}

func runHistories(t *testing.T, from, to uint64) {
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			h := &history{bench: newBench(t, 1), random: rand.New(rand.NewPCG(seed, 2)), term: 1, wanted: map[engine.ObjectID]*model{}}
			h.run()
		})
	}
}

// model is what must be true of an object.
type model struct {
	owners []engine.ObjectOwner
	// known says that the head has heard of it.
	known bool
	// file says that it has a checkpoint which its primary copy knows of.
	file bool
	// lost says that all copies went with their stores.
	lost bool
}

type history struct {
	*bench
	random *rand.Rand
	term   uint64
	wanted map[engine.ObjectID]*model
	waits  map[uint64][]engine.ObjectID
	next   byte
	born   int
	// clients counts how many there have been in each of three places.
	clients [3]int
}

func (h *history) session(n int) engine.ObjectOwner {
	return engine.ObjectOwner{Kind: engine.OwnerSession, ID: fmt.Sprintf("%c%031x", 'a'+n, h.clients[n])}
}

func (h *history) anyStore() *fakeStore { return h.stores[h.random.IntN(len(h.stores))] }

func (h *history) anyObject() (engine.ObjectID, *model) {
	ids := sorted(h.wanted)
	if len(ids) == 0 {
		return engine.ObjectID{}, nil
	}
	id := ids[h.random.IntN(len(ids))]
	return id, h.wanted[id]
}

func (h *history) run() {
	h.waits = map[uint64][]engine.ObjectID{}
	for range 3 {
		h.addStore()
	}
	for step := range 150 {
		h.renewAll()
		h.step(step)
		if h.random.IntN(3) > 0 {
			continue // Things happen before the last ones have been told.
		}
		if h.random.IntN(4) == 0 {
			for _, s := range h.stores {
				if s.session == 0 {
					h.connect(s)
				}
			}
		}
		h.settled()
	}
	h.end()
}

func (h *history) addStore() {
	h.born++
	h.store(engine.NodeID(fmt.Sprintf("n%d", h.born)))
}

// renewAll keeps the clients' sessions alive whose objects are wanted.
func (h *history) renewAll() {
	for n := range 3 {
		if _, err := h.core.OpenSession(h.now, h.session(n).ID); err != nil {
			h.t.Fatal(err)
		}
	}
	h.take()
}

func (h *history) step(step int) {
	s := h.anyStore()
	id, m := h.anyObject()
	action := h.random.IntN(100)
	if testing.Verbose() {
		h.t.Logf("step %d: action %d on store %s (stream %d) and object %s, which is %s", step, action, s.node, s.session, id, h.summary(id))
	}
	switch {
	case action < 20: // A client puts an object through a store's socket.
		h.next++
		id := engine.ObjectID{0: h.next, 1: byte(step), 15: 1}
		owner := h.session(h.random.IntN(3))
		s.put(id, owner)
		h.wanted[id] = &model{owners: []engine.ObjectOwner{owner}}
	case action < 32 && m != nil: // A store pulls a copy.
		if holders := infoHolders(h.describe(id)); s.copies[id] == nil && len(holders) > 0 && h.hasPrimary(id) {
			s.put(id)
		}
	case action < 38: // A store drops a cache; of what has a primary copy somewhere, as it might be the last.
		for _, id := range sorted(s.copies) {
			if !s.copies[id].primary && h.hasPrimary(id) {
				s.remove(id)
				break
			}
		}
	case action < 48 && m != nil:
		h.hold(id, m, h.session(h.random.IntN(3)))
	case action < 54 && m != nil:
		h.hold(id, m, engine.ObjectOwner{Kind: engine.OwnerPin, ID: fmt.Sprintf("pin%d", h.random.IntN(6))})
	case action < 64 && m != nil && len(m.owners) > 0: // Somebody gives an object up.
		if h.core.Forgotten(id) {
			return // The head has not heard of it, or knows no owners; see Directory.Release.
		}
		owner := m.owners[h.random.IntN(len(m.owners))]
		h.core.Release(h.now, id, owner)
		m.drop(owner)
	case action < 67 && m != nil:
		h.core.Delete(h.now, []engine.ObjectID{id})
		delete(h.wanted, id)
	case action < 72 && m != nil:
		if number, err := h.core.Checkpoint(id, "s3://b/run", nil); err == nil {
			if _, err := h.done(number, nil); err == nil && h.hasPrimaryWithFile(id) {
				m.file = true
			}
		}
	case action < 76: // A client ends.
		n := h.random.IntN(3)
		owner := h.session(n)
		h.clients[n]++
		if stream, err := h.core.OpenSession(h.now, owner.ID); err == nil && h.random.IntN(2) == 0 {
			h.core.CloseSession(h.now, owner.ID, stream)
		}
		for _, m := range h.wanted {
			m.drop(owner)
		}
	case action < 82 && s.session != 0: // A stream breaks; orders may be lost with it.
		h.core.Answer(s.node, s.session)
		h.disconnect(s, false)
	case action < 87 && s.session == 0:
		h.connect(s)
	case action < 89 && len(h.stores) > 2: // A store dies; another one comes.
		if s.session == 0 || h.random.IntN(2) == 0 {
			h.kill(s)
			h.addStore()
			h.forgetLost()
		}
	case action < 91: // A store leaves.
		h.leave(s)
	case action < 92: // The head dies.
		h.restart()
	case action < 95 && m != nil:
		ids := []engine.ObjectID{id}
		if other, m := h.anyObject(); m != nil {
			ids = append(ids, other)
		}
		h.waits[h.core.Wait(h.now, ids, 1+h.random.IntN(len(ids)))] = ids
	default:
		h.renewAll()
		h.pass(time.Duration(h.random.IntN(int(leaseTime) / 2)))
	}
	h.take()
	for id, m := range h.wanted {
		m.known = m.known || h.describe(id) != nil
	}
}

// leave lets a store go once the head says that nothing is left there that can be moved. It does not have all the time in the world, and a
// client may put things there still.
func (h *history) leave(s *fakeStore) {
	if s.session == 0 {
		return
	}
	s.leaving, s.evacuated = true, nil
	if h.random.IntN(4) == 0 {
		return // It changes its mind, or does so later.
	}
	h.calm()
	if s.evacuated == nil {
		h.t.Fatalf("nobody has anything to say, and %s does not hear whether it may leave", s.node)
	}
	if s.evacuated.GetLeftObjects() > 0 {
		if !slices.ContainsFunc(h.stores, func(other *fakeStore) bool { return other != s && other.session != 0 }) {
			return // There is no other store.
		}
	}
	left := s.evacuated.GetLeftObjects()
	h.disconnect(s, true)
	h.stores = slices.DeleteFunc(h.stores, func(other *fakeStore) bool { return other == s })
	for id, m := range h.wanted {
		if m.lost || len(m.owners) == 0 || slices.ContainsFunc(h.stores, func(other *fakeStore) bool { return other.copies[id] != nil }) {
			continue
		}
		// A checkpoint that only a cache knew of counts, too.
		if m.lost = true; m.known && s.copies[id] != nil && h.describe(id).GetCheckpoint() == "" {
			if left--; left < 0 {
				h.t.Fatalf("%s has left with %s, which it has the only copy of: %s", s.node, id, h.summary(id))
			}
		}
	}
	h.addStore()
}

func (m *model) drop(owner engine.ObjectOwner) {
	m.owners = slices.DeleteFunc(slices.Clone(m.owners), func(o engine.ObjectOwner) bool { return o == owner })
}

func (h *history) hold(id engine.ObjectID, m *model, owner engine.ObjectOwner) {
	for other, om := range h.wanted {
		if owner.Kind == engine.OwnerPin && other != id && hasOwner(om.owners, owner) {
			return // Names are unique; a table test sees to that.
		}
	}
	number, err := h.core.Hold(h.now, id, owner)
	if err != nil {
		return
	}
	if number != 0 {
		h.calm()
		h.take()
		if result, ok := h.results[number]; !ok || result.Err != nil {
			if !ok {
				// The store is away: the reference may come about or not.
				m.owners = append(m.owners, owner)
				for _, s := range h.stores {
					if s.session == 0 {
						h.connect(s)
					}
				}
				h.lapse()
				if result := h.results[number]; result.Err != nil {
					m.drop(owner)
					h.core.Release(h.now, id, owner)
				}
			}
			return
		}
	}
	if !hasOwner(m.owners, owner) {
		m.owners = append(m.owners, owner)
	}
}

func (h *history) hasPrimary(id engine.ObjectID) bool {
	return slices.ContainsFunc(h.stores, func(s *fakeStore) bool { return s.copies[id] != nil && s.copies[id].primary })
}

func (h *history) hasPrimaryWithFile(id engine.ObjectID) bool {
	return slices.ContainsFunc(h.stores, func(s *fakeStore) bool {
		return s.copies[id] != nil && s.copies[id].primary && s.copies[id].checkpoint != ""
	})
}

// forgetLost marks what no store has any more.
func (h *history) forgetLost() {
	for id, m := range h.wanted {
		if !slices.ContainsFunc(h.stores, func(s *fakeStore) bool { return s.copies[id] != nil }) {
			m.lost = true
		}
	}
}

// restart puts a new head in the old one's place. What it cannot learn, because no store has a primary copy, is not expected of it.
func (h *history) restart() {
	h.calmOrNot()
	for id := range h.wanted {
		if !h.hasPrimary(id) {
			delete(h.wanted, id)
			for _, s := range h.stores {
				delete(s.copies, id)
				delete(s.changed, id)
			}
		}
	}
	h.term++
	h.core = objects.NewCore(h.now, objects.Config{ClusterID: "c1", Term: h.term, LeaseTime: leaseTime})
	h.waits = map[uint64][]engine.ObjectID{}
	h.renewAll()
	for _, s := range h.stores {
		clear(s.results)
		h.connect(s)
	}
	h.lapse()
}

// calmOrNot lets the orders that the old head gave reach those that are there: what it had not said when it died, nobody knows.
func (h *history) calmOrNot() {
	for _, s := range h.stores {
		if s.session == 0 {
			h.connect(s)
		}
	}
	h.lapse()
}

// lapse lets a lease time pass in calm.
func (h *history) lapse() {
	for range 12 {
		h.renewAll()
		h.calm()
		h.pass(leaseTime / 10)
	}
	h.calm()
}

// settled checks what must be true when nobody has anything to say.
func (h *history) settled() {
	h.t.Helper()
	h.renewAll()
	h.calm()
	away := slices.ContainsFunc(h.stores, func(s *fakeStore) bool { return s.session == 0 })
	for id, ids := range h.waits {
		if answer, ok := h.answers[id]; ok {
			delete(h.waits, id)
			if answer.Err == nil && len(answer.Ready) == 0 {
				h.t.Fatalf("wait for %v was answered with nothing", ids)
			}
		}
	}
	if away {
		return
	}
	h.lapse()
	// The directory is what the stores say.
	for _, s := range h.stores {
		for id, c := range s.copies {
			info := h.describe(id)
			at := slices.IndexFunc(infoHolders(info), func(text string) bool { return text == fmt.Sprint(s.node, c.primary) })
			if at < 0 {
				h.t.Fatalf("%s has %s (primary %v), and the directory says %v", s.node, id, c.primary, info)
			}
		}
	}
	for _, id := range sorted(h.wanted) {
		m := h.wanted[id]
		primaries, copies := 0, 0
		for _, s := range h.stores {
			c := s.copies[id]
			if c == nil {
				continue
			}
			copies++
			if !c.primary {
				continue
			}
			primaries++
			for _, owner := range c.owners {
				if !hasOwner(m.owners, owner) {
					h.t.Fatalf("%s: %s is still owned by %s; wanted are %v", s.node, id, owner, m.owners)
				}
			}
			for _, owner := range m.owners {
				if !hasOwner(c.owners, owner) {
					h.t.Fatalf("%s: %s is not owned by %s any more; it has %v; the directory says %s", s.node, id, owner, c.owners, h.summary(id))
				}
			}
		}
		switch {
		case len(m.owners) == 0:
			if copies != 0 {
				h.t.Fatalf("nobody owns %s, and there are %d copies: %s", id, copies, h.summary(id))
			}
			delete(h.wanted, id)
		case m.lost && copies == 0:
			if !m.known {
				continue
			}
			want := "LOST"
			if m.file {
				want = "CHECKPOINTED"
			}
			if got := h.summary(id); !strings.HasPrefix(got, want) && !(want == "LOST" && strings.HasPrefix(got, "CHECKPOINTED")) {
				h.t.Fatalf("%s is %q, expected %s", id, got, want)
			}
		case primaries != 1:
			h.t.Fatalf("%s is owned by %v and has %d primary copies of %d: %s", id, m.owners, primaries, copies, h.summary(id))
		}
	}
	kept := h.core.Kept()
	for _, what := range []string{"orders", "waiting", "queues", "ending", "requests", "pinning"} {
		if kept[what] != 0 {
			h.t.Fatalf("all is calm, and there are %d %s: %v", kept[what], what, kept)
		}
	}
	for number, ids := range h.waits {
		for _, id := range ids {
			if info := h.describe(id); len(info.GetHolders()) == 0 && !h.core.Forgotten(id) && info.GetCheckpoint() == "" && len(ids) == 1 {
				h.t.Fatalf("wait %d for %s is not answered; it is %s", number, id, h.summary(id))
			}
		}
		if len(ids) == 1 && len(h.describe(ids[0]).GetHolders()) > 0 {
			h.t.Fatalf("wait %d for %s is not answered, which is there", number, ids[0])
		}
	}
}

func infoHolders(info interface {
	GetHolders() []*enginev1.ObjectHolder
}) (texts []string) {
	for _, holder := range info.GetHolders() {
		texts = append(texts, fmt.Sprint(holder.GetStore().GetNodeId(), holder.GetPrimary()))
	}
	return texts
}

// end lets everybody go, and sees that nothing is kept for ever.
func (h *history) end() {
	for _, s := range h.stores {
		if s.session == 0 {
			h.connect(s)
		}
	}
	h.settled()
	for number := range h.waits {
		h.core.Abandon(number)
	}
	h.core.Delete(h.now, sorted(h.wanted))
	h.pass(leaseTime + time.Second)
	h.calm()
	for _, s := range h.stores {
		for id, c := range s.copies {
			// A cache that was made while its object was deleted, and told of to the next head alone, goes when memory is needed.
			if c.primary || h.term == 1 {
				h.t.Fatalf("%s has %s in the end", s.node, id)
			}
		}
		h.disconnect(s, true)
	}
	h.pass(2 * time.Hour)
	h.pass(2 * time.Hour)
	for what, n := range h.core.Kept() {
		if n != 0 {
			h.t.Fatalf("%d %s are kept for ever", n, what)
		}
	}
}
