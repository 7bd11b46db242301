package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore"
)

// History is what a random history is made of.
type History struct {
	// Seed makes it come again.
	Seed uint64
	// Steps is its length.
	Steps int
	// Config is the store's, without what is below.
	Config objectstore.Config
	// Bucket takes the spilled objects; nil means that none are.
	Bucket blob.Bucket
	// Faults of the bucket go on and off during the history.
	Faults Faults
}

// Run does random things with a store and compares it with a model after each. Whatever the faults, no object has wrong bytes,
// none that is owned is lost, and once nothing is pinned and nothing fails there is room for every object that fits at all.
func (h History) Run(t *testing.T) {
	t.Logf("seed %d", h.Seed)
	r := &history{T: t, History: h, random: rand.New(rand.NewPCG(h.Seed, 1)), clock: &Clock{}}
	if h.Bucket != nil {
		r.bucket = NewBucket(h.Bucket, h.Seed)
	}
	r.open()
	for r.step = range h.Steps {
		r.act()
		if t.Failed() {
			t.Fatalf("seed %d, step %d: %s", h.Seed, r.step, r.doing)
		}
	}
	r.end()
}

// modelObject is what the model knows of an object.
type modelObject struct {
	size    int64
	primary bool
	owners  map[string]engine.ObjectOwner
}

// history is one run.
type history struct {
	*testing.T
	History
	random *rand.Rand
	clock  *Clock
	bucket *Bucket
	faulty bool
	step   int
	doing  string

	store   *objectstore.Store
	objects map[engine.ObjectID]*modelObject
	pending map[engine.ObjectID]*pendingObject
	handles []*objectstore.Handle

	cursor uint64
	mirror map[engine.ObjectID]objectstore.Info
}

type pendingObject struct {
	*objectstore.Pending
	modelObject
	writer string
}

const idsOfHistory = 40

func (r *history) open() {
	config := r.Config
	config.Now = r.clock.Now
	config.PrefaultBytes = -1
	if r.bucket != nil {
		config.Spill = r.bucket
		config.Node, config.Generation = "node", fmt.Sprint("g", r.step)
	}
	var err error
	if r.store, err = objectstore.Open(r.Context(), config); err != nil {
		r.Fatal(err)
	}
	r.objects, r.pending = map[engine.ObjectID]*modelObject{}, map[engine.ObjectID]*pendingObject{}
	r.cursor, r.mirror = 0, map[engine.ObjectID]objectstore.Info{}
}

// act does one thing.
func (r *history) act() {
	actions := []struct {
		weight int
		name   string
		f      func()
	}{
		{30, "create", r.create}, {25, "seal", r.seal}, {4, "abort", r.abort}, {30, "get", r.get}, {28, "release", r.release},
		{4, "delete", r.delete}, {6, "own", r.own}, {3, "promote", r.promote}, {2, "end owner", r.endOwner}, {6, "spill", r.spill},
		{3, "sum", r.sum}, {3, "advance the clock", r.advance}, {2, "crash a writer", r.crash}, {5, "compare", r.compare},
		{5, "follow changes", r.follow}, {2, "switch faults", r.switchFaults}, {1, "reopen", r.reopen},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := r.random.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			r.doing = a.name
			a.f()
			return
		}
	}
}

func (r *history) pickID() engine.ObjectID { return ID(r.random.IntN(idsOfHistory)) }

func (r *history) pickOwner() engine.ObjectOwner {
	kinds := []engine.OwnerKind{engine.OwnerSession, engine.OwnerTask, engine.OwnerJob, engine.OwnerPin}
	o := engine.ObjectOwner{Kind: kinds[r.random.IntN(len(kinds))], ID: fmt.Sprint(r.random.IntN(2))}
	if r.random.IntN(4) == 0 {
		o.Expires = r.clock.Now().Add(time.Duration(1+r.random.IntN(20)) * time.Minute)
	}
	return o
}

// size is often small and never more than the store can hold.
func (r *history) size() int64 {
	if r.random.IntN(3) == 0 {
		return 1 + r.random.Int64N(engine.MaxInlineObjectBytes)
	}
	limit := r.Config.CapacityBytes
	if r.random.IntN(10) > 0 {
		limit /= 6
	}
	return 1 + r.random.Int64N(limit)
}

// patience bounds a call that may have to wait for what this single goroutine holds.
func (r *history) patience() (context.Context, context.CancelFunc) {
	if len(r.handles)+len(r.pending) == 0 && !r.faulty && r.bucket != nil {
		// Nothing is in the way, so it must succeed.
		return context.WithTimeout(r.Context(), 20*time.Second)
	}
	return context.WithTimeout(r.Context(), 5*time.Millisecond)
}

// mayFail reports whether a call may fail with this error because of pins or faults.
func (r *history) mayFail(err error) bool {
	crowded := len(r.handles)+len(r.pending) > 0 || r.bucket == nil
	switch engine.KindOf(err) {
	case engine.KindExhausted, engine.KindDeadline:
		return crowded || r.faulty
	case engine.KindUnavailable, engine.KindCorrupt:
		return r.faulty
	default:
		return false
	}
}

func (r *history) create() {
	id := r.pickID()
	c := objectstore.Creation{ID: id, SizeBytes: r.size(), Domain: []string{"", "a"}[r.random.IntN(2)]}
	m := modelObject{size: c.SizeBytes, owners: map[string]engine.ObjectOwner{}}
	if r.random.IntN(4) > 0 {
		c.Owner = r.pickOwner()
		m.primary = true
		m.owners[c.Owner.String()] = c.Owner
	}
	if r.random.IntN(4) == 0 {
		c.Writer = "writer"
	}
	r.forgetCaches()
	ctx, cancel := r.patience()
	defer cancel()
	p, err := r.store.Create(ctx, c)
	exists := r.objects[id] != nil || r.pending[id] != nil
	switch {
	case err == nil && exists:
		r.Errorf("created %s, which exists", id)
	case err == nil:
		r.pending[id] = &pendingObject{p, m, c.Writer}
		copy(p.Memory(), Content(id, c.SizeBytes))
	case engine.KindOf(err) == engine.KindConflict && exists:
	case !r.mayFail(err):
		r.Errorf("create %d bytes: %v; %+v", c.SizeBytes, err, r.store.Usage())
	}
}

// forgetCaches makes the model follow the store in what it may forget at any time.
func (r *history) forgetCaches() {
	for id, m := range r.objects {
		if _, ok := r.store.Info(id); !ok && !m.primary {
			delete(r.objects, id)
		}
	}
}

// anyPending picks a pending object, or nil.
func (r *history) anyPending() (engine.ObjectID, *pendingObject) {
	ids := make([]engine.ObjectID, 0, len(r.pending))
	for id := range r.pending {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return engine.ObjectID{}, nil
	}
	slices.SortFunc(ids, func(a, b engine.ObjectID) int { return slices.Compare(a[:], b[:]) })
	id := ids[r.random.IntN(len(ids))]
	return id, r.pending[id]
}

func (r *history) seal() {
	id, p := r.anyPending()
	if p == nil {
		return
	}
	delete(r.pending, id)
	_, err := p.Seal(objectstore.Description{Rows: p.size, Batches: 1})
	if p.primary && len(p.owners) == 0 {
		if engine.KindOf(err) != engine.KindFenced {
			r.Errorf("sealed %s, whose owner ended: %v", id, err)
		}
		return
	}
	if err != nil {
		r.Error(err)
		return
	}
	r.objects[id] = &p.modelObject
	if _, err := p.Seal(objectstore.Description{}); engine.KindOf(err) != engine.KindConflict {
		r.Errorf("sealed %s twice: %v", id, err)
	}
}

func (r *history) abort() {
	if id, p := r.anyPending(); p != nil {
		delete(r.pending, id)
		p.Abort()
		p.Abort()
	}
}

func (r *history) get() {
	id := r.pickID()
	ctx, cancel := r.patience()
	defer cancel()
	h, err := r.store.Get(ctx, id)
	m := r.objects[id]
	switch {
	case err == nil && m == nil:
		r.Errorf("got %s, which does not exist", id)
		h.Release()
	case err == nil:
		if err := compare(h); err != nil {
			r.Error(err)
		}
		r.handles = append(r.handles, h)
	case engine.KindOf(err) == engine.KindNotFound && (m == nil || !m.primary):
		delete(r.objects, id)
	case m == nil || !r.mayFail(err):
		r.Errorf("get %s, which is %+v: %v; %+v", id, m, err, r.store.Usage())
	}
}

func (r *history) release() {
	// Now and then all are released, so that there are moments when nothing is in the way.
	n := 1
	if r.random.IntN(6) == 0 {
		n = len(r.handles)
		for len(r.pending) > 0 {
			r.abort()
		}
	}
	for range min(n, len(r.handles)) {
		i := r.random.IntN(len(r.handles))
		h := r.handles[i]
		r.handles = slices.Delete(r.handles, i, i+1)
		if err := compare(h); err != nil {
			r.Errorf("at the release: %v", err)
		}
		h.Release()
		h.Release()
	}
}

func (r *history) delete() {
	id := r.pickID()
	r.store.Delete(id)
	delete(r.objects, id)
}

func (r *history) own() {
	id := r.pickID()
	add, remove := []engine.ObjectOwner{r.pickOwner()}, []engine.ObjectOwner{r.pickOwner()}
	if r.random.IntN(2) == 0 {
		add = nil
	}
	err := r.store.Own(id, add, remove)
	m := r.objects[id]
	switch {
	case m == nil || !m.primary && engine.KindOf(err) == engine.KindNotFound:
		if engine.KindOf(err) != engine.KindNotFound {
			r.Errorf("own %s, which does not exist: %v", id, err)
		}
		delete(r.objects, id)
	case !m.primary:
		if (len(add) > 0) != (engine.KindOf(err) == engine.KindConflict && err != nil) {
			r.Errorf("own the cache %s: %v", id, err)
		}
	case err != nil:
		r.Error(err)
	default:
		for _, o := range remove {
			delete(m.owners, o.String())
		}
		for _, o := range add {
			m.owners[o.String()] = o
		}
		r.reap(id, m)
	}
}

// reap forgets an object that nobody owns.
func (r *history) reap(id engine.ObjectID, m *modelObject) {
	if m.primary && len(m.owners) == 0 {
		delete(r.objects, id)
	}
}

func (r *history) promote() {
	id := r.pickID()
	owner := r.pickOwner()
	_, err := r.store.Promote(id, []engine.ObjectOwner{owner}, "")
	m := r.objects[id]
	switch {
	case engine.KindOf(err) == engine.KindNotFound && (m == nil || !m.primary):
		delete(r.objects, id)
	case err != nil || m == nil:
		r.Errorf("promote %s, which is %+v: %v", id, m, err)
	default:
		m.primary = true
		m.owners[owner.String()] = owner
	}
}

func (r *history) endOwner() {
	owner := r.pickOwner()
	r.store.EndOwner(owner)
	r.endWhere(func(o engine.ObjectOwner) bool { return o.String() == owner.String() })
}

func (r *history) endWhere(ends func(engine.ObjectOwner) bool) {
	for id, m := range r.objects {
		for name, o := range m.owners {
			if ends(o) {
				delete(m.owners, name)
			}
		}
		r.reap(id, m)
	}
	for _, p := range r.pending {
		for name, o := range p.owners {
			if ends(o) {
				delete(p.owners, name)
			}
		}
	}
}

func (r *history) advance() {
	r.clock.Advance(time.Duration(r.random.IntN(10)) * time.Minute)
	now := r.clock.Now()
	r.endWhere(func(o engine.ObjectOwner) bool { return !o.Expires.IsZero() && !o.Expires.After(now) })
}

func (r *history) spill() {
	id := r.pickID()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	err := r.store.Spill(ctx, id)
	kind := engine.KindOf(err)
	if !r.faulty && (kind == engine.KindCorrupt || kind == engine.KindUnavailable) {
		// It may have waited for a read that began while the bucket had faults. Another one has none.
		err = r.store.Spill(ctx, id)
		kind = engine.KindOf(err)
	}
	m := r.objects[id]
	switch {
	case err == nil && m == nil:
		r.Errorf("spilled %s, which does not exist", id)
	case err == nil:
	case kind == engine.KindNotFound && (m == nil || !m.primary):
		delete(r.objects, id)
	case kind == engine.KindInvalidArgument && r.bucket == nil && m != nil:
	case !r.faulty || m == nil:
		r.Errorf("spill %s, which is %+v: %v", id, m, err)
	}
}

func (r *history) sum() {
	id := r.pickID()
	sum, err := r.store.Checksum(r.Context(), id)
	m := r.objects[id]
	switch {
	case err == nil && m != nil:
		if want := checksum(Content(id, m.size)); sum != want {
			r.Errorf("the checksum of %s is %08x, want %08x", id, sum, want)
		}
	case engine.KindOf(err) != engine.KindNotFound || m != nil && m.primary:
		r.Errorf("sum %s, which is %+v: %v", id, m, err)
	default:
		delete(r.objects, id)
	}
}

func (r *history) crash() {
	r.store.EndWriter("writer")
	for id, p := range r.pending {
		if p.writer == "writer" && p.size > engine.MaxInlineObjectBytes {
			if _, err := p.Seal(objectstore.Description{}); engine.KindOf(err) != engine.KindConflict {
				r.Errorf("sealed %s, whose writer has crashed: %v", id, err)
			}
			delete(r.pending, id)
		} else if p.writer == "writer" {
			p.Abort()
			delete(r.pending, id)
		}
	}
}

// compare looks at all that the store says.
func (r *history) compare() {
	u := r.store.Usage()
	if u.ObjectBytes > u.CapacityBytes || u.PinnedBytes > u.ObjectBytes || u.ArenaBytes > u.CapacityBytes {
		r.Errorf("usage is %+v", u)
	}
	listed := map[engine.ObjectID]objectstore.Info{}
	for _, info := range r.store.List() {
		listed[info.ID] = info
	}
	for id, m := range r.objects {
		info, ok := listed[id]
		delete(listed, id)
		switch {
		case !ok && !m.primary:
			delete(r.objects, id)
		case !ok:
			r.Errorf("%s is lost", id)
		case info.SizeBytes != m.size || info.Primary != m.primary || info.Rows != m.size || len(info.Owners) != len(m.owners):
			r.Errorf("%s is %+v, want %+v", id, info, m)
		case info.State == engine.ObjectSpilled && info.Spilled == "":
			r.Errorf("%s is spilled to nowhere", id)
		}
	}
	for id := range listed {
		r.Errorf("%s should not exist", id)
	}
}

// follow brings a mirror up to date that knows nothing but the changes.
func (r *history) follow() {
	for {
		changed, gone, full, next, more := r.store.Changes(r.cursor)
		r.cursor = next
		if full {
			clear(r.mirror)
		}
		for _, info := range changed {
			r.mirror[info.ID] = info
		}
		for _, id := range gone {
			if _, ok := r.mirror[id]; !ok && full {
				r.Errorf("%s is gone, and was in no list", id)
			}
			delete(r.mirror, id)
		}
		list := r.store.List()
		select {
		case <-more:
			continue // The store changed between the two looks.
		default:
		}
		if len(list) != len(r.mirror) {
			r.Errorf("the mirror has %d objects, the store %d", len(r.mirror), len(list))
		}
		for _, info := range list {
			m := r.mirror[info.ID]
			if m.SizeBytes != info.SizeBytes || m.State != info.State || m.Primary != info.Primary || !slices.Equal(m.Owners, info.Owners) || m.Spilled != info.Spilled {
				r.Errorf("the mirror has %+v, the store %+v", m, info)
			}
		}
		return
	}
}

func (r *history) switchFaults() {
	if r.bucket == nil {
		return
	}
	r.faulty = !r.faulty
	if r.faulty {
		r.bucket.SetFaults(r.Faults)
		return
	}
	r.bucket.SetFaults(Faults{})
	// What the store puts off after a failure is due again.
	r.advance()
	r.clock.Advance(time.Minute)
	r.advance()
}

// reopen closes the store under its readers and begins anew.
func (r *history) reopen() {
	if r.random.IntN(4) > 0 {
		return
	}
	if r.faulty {
		r.switchFaults()
	}
	old := r.store
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	if err := old.Close(ctx); err != nil {
		r.Error(err)
	}
	for _, p := range r.pending {
		if _, err := p.Seal(objectstore.Description{}); engine.KindOf(err) != engine.KindUnavailable {
			r.Errorf("sealed an object of a closed store: %v", err)
		}
	}
	for len(r.handles) > 0 {
		r.release()
	}
	Close(r.T, old)
	if r.bucket != nil {
		wantEmpty(r.T, r.Bucket)
	}
	r.open()
}

// end checks that nothing was lost and that nothing is left.
func (r *history) end() {
	r.doing = "end"
	if r.faulty {
		r.switchFaults()
	}
	for len(r.pending) > 0 {
		r.abort()
	}
	for len(r.handles) > 0 {
		r.release()
	}
	r.compare()
	r.follow()
	for id, m := range r.objects {
		ctx, cancel := r.patience()
		h, err := r.store.Get(ctx, id)
		cancel()
		if err != nil {
			if m.primary {
				r.Errorf("get %s, which is %+v: %v", id, m, err)
			}
			continue
		}
		if err := compare(h); err != nil {
			r.Error(err)
		}
		h.Release()
	}
	for _, leak := range r.store.Leaks() {
		r.Error(leak)
	}
	Close(r.T, r.store)
	if r.bucket != nil {
		wantEmpty(r.T, r.Bucket)
	}
}
