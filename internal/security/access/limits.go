package access

import (
	"sync"
	"time"

	"github.com/f708428e/engine"
)

// Limits bound what one identity, or one stranger, may take of a server. The zero value means the defaults, which nobody meets who works;
// they are for what goes wrong.
type Limits struct {
	// RequestsPerSecond bounds the calls of one identity, and RequestBurst how many may come at once. Zero means 20,000 and twice that.
	RequestsPerSecond float64
	RequestBurst      float64
	// Concurrent bounds the calls of one identity that are under way, streams included. Zero means 20,000.
	Concurrent int
	// Connections bounds those of one host, or of one user of this machine, and AllConnections those of a port. Zero means 4,096 and 16,384.
	Connections    int
	AllConnections int
	// RefusalsPerSecond bounds the calls that one source has refused for want of an identity; what comes above that is refused unseen for
	// the rest of the second. Zero means 50.
	RefusalsPerSecond float64
	// Strangers bounds the calls under way, of all together, of those who have shown no proof: of nodes that join. Each source may have a
	// quarter. Zero means 64.
	Strangers int
	// Pending bounds the calls under way, of all together, whose token or JWT is being looked at, over connections where nobody is known yet.
	// Each source may have a quarter. Zero means 512.
	Pending int
	// ProveWithin bounds the time of a call of a stranger, and the time until a token or JWT has been looked at. Zero means 30 seconds.
	ProveWithin time.Duration
	// SlowClient is how long a client may leave a message unread that is for it, before its call ends. Zero means 2 minutes.
	SlowClient time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(v *float64, value float64) {
		if *v == 0 {
			*v = value
		}
	}
	count := func(v *int, value int) {
		if *v == 0 {
			*v = value
		}
	}
	set(&l.RequestsPerSecond, 20_000)
	set(&l.RequestBurst, 2*l.RequestsPerSecond)
	count(&l.Concurrent, 20_000)
	count(&l.Connections, 4_096)
	count(&l.AllConnections, 16_384)
	set(&l.RefusalsPerSecond, 50)
	count(&l.Strangers, 64)
	count(&l.Pending, 512)
	if l.ProveWithin == 0 {
		l.ProveWithin = 30 * time.Second
	}
	if l.SlowClient == 0 {
		l.SlowClient = 2 * time.Minute
	}
	return l
}

// Validate returns an error of kind engine.KindInvalidArgument for limits below zero.
func (l Limits) Validate() error {
	if l.RequestsPerSecond < 0 || l.RequestBurst < 0 || l.Concurrent < 0 || l.Connections < 0 || l.AllConnections < 0 || l.RefusalsPerSecond < 0 || l.Strangers < 0 || l.Pending < 0 || l.ProveWithin < 0 || l.SlowClient < 0 {
		return engine.Errorf(engine.KindInvalidArgument, "read limits", "", "a limit is below zero")
	}
	return nil
}

// usage counts what identities and strangers take. It is safe for concurrent use.
type usage struct {
	limits Limits
	now    func() time.Time

	mu sync.Mutex
	// identities are those that have made a call lately, by name and method; sources by host or user.
	identities map[string]*share
	sources    map[string]*share
	// connections counts those that are open, by source.
	connections map[string]int
	all         int
	// strangers counts their calls that are under way, and pending those of callers whose credential is being looked at.
	strangers, pending tally
	swept              time.Time
}

// share is what one of them takes.
type share struct {
	// tokens are the calls that it may make at once as of at.
	tokens float64
	at     time.Time
	active int
}

func newUsage(limits Limits, now func() time.Time) *usage {
	return &usage{limits: limits, now: now, identities: map[string]*share{}, sources: map[string]*share{}, connections: map[string]int{}, strangers: tally{of: map[string]int{}}, pending: tally{of: map[string]int{}}, swept: now()}
}

// tally counts what is under way, by source, and all of it.
type tally struct {
	of  map[string]int
	all int
}

// add counts one more of a source, which may have a quarter of most; false if there are too many.
func (t *tally) add(source string, most int) bool {
	if t.all >= most || t.of[source] >= max(1, most/4) {
		return false
	}
	t.all++
	t.of[source]++
	return true
}

func (t *tally) remove(source string) {
	t.all--
	if t.of[source]--; t.of[source] == 0 {
		delete(t.of, source)
	}
}

// take takes one of what refills with perSecond up to most.
func (s *share) take(now time.Time, perSecond, most float64) bool {
	s.tokens = min(most, s.tokens+now.Sub(s.at).Seconds()*perSecond)
	s.at = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

func shareOf(of map[string]*share, name string, now time.Time, full float64) *share {
	s := of[name]
	if s == nil {
		s = &share{tokens: full, at: now}
		of[name] = s
	}
	return s
}

// begin counts a call of an identity, until done is called. The error is of kind engine.KindExhausted.
func (u *usage) begin(identity Identity, source string) (done func(), err error) {
	if identity.Method == ByProcess {
		return func() {}, nil
	}
	name := string(identity.Method) + " " + identity.Name
	if identity.IsZero() {
		name += source // One stranger does not use up what others may.
	}
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweep(now)
	s := shareOf(u.identities, name, now, u.limits.RequestBurst)
	if s.active >= u.limits.Concurrent {
		return nil, engine.Errorf(engine.KindExhausted, opCall, "", "%s has %d calls under way, which is the limit", identity, s.active)
	}
	if !s.take(now, u.limits.RequestsPerSecond, u.limits.RequestBurst) {
		return nil, engine.Errorf(engine.KindExhausted, opCall, "", "%s makes more than %v calls a second, which is the limit", identity, u.limits.RequestsPerSecond)
	}
	s.active++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		s.active--
	}, nil
}

// stranger counts a call of a source that shows no proof, until done is called.
func (u *usage) stranger(source string) (done func(), err error) {
	return u.admit(&u.strangers, u.limits.Strangers, source, "too many join at this moment: %d, of which %d are from there")
}

// pend counts a call of a source that shows a credential that is yet to be looked at, until done is called.
func (u *usage) pend(source string) (done func(), err error) {
	return u.admit(&u.pending, u.limits.Pending, source, "too many say at this moment who they are: %d, of which %d are from there")
}

func (u *usage) admit(to *tally, most int, source, tooMany string) (done func(), err error) {
	if !u.mayTry(source) {
		return nil, errTooMany
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !to.add(source, most) {
		return nil, engine.Errorf(engine.KindExhausted, opCall, "", tooMany, to.all, to.of[source])
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		to.remove(source)
	}, nil
}

// mayTry reports whether a source may try to say who it is.
func (u *usage) mayTry(source string) bool {
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.sources[source]
	if s == nil {
		return true
	}
	s.tokens = min(u.limits.RefusalsPerSecond, s.tokens+now.Sub(s.at).Seconds()*u.limits.RefusalsPerSecond)
	s.at = now
	return s.tokens >= 1
}

// failed counts a call of a source that did not say who it is.
func (u *usage) failed(source string) {
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweep(now)
	shareOf(u.sources, source, now, u.limits.RefusalsPerSecond).take(now, u.limits.RefusalsPerSecond, u.limits.RefusalsPerSecond)
}

// sweepEvery is how often shares are forgotten that are full again. u.mu is held.
const sweepEvery = time.Minute

func (u *usage) sweep(now time.Time) {
	if now.Sub(u.swept) < sweepEvery {
		return
	}
	u.swept = now
	for _, of := range []map[string]*share{u.identities, u.sources} {
		for name, s := range of {
			if s.active == 0 && now.Sub(s.at) > sweepEvery {
				delete(of, name)
			}
		}
	}
}

// connect counts a connection of a source, until it is closed; false if there are too many.
func (u *usage) connect(source string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all >= u.limits.AllConnections || u.connections[source] >= u.limits.Connections {
		return false
	}
	u.all++
	u.connections[source]++
	return true
}

func (u *usage) disconnect(source string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.connections[source]--; u.connections[source] == 0 {
		delete(u.connections, source)
	}
}
