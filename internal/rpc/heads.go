package rpc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// askWithin is how long one head may take to say who leads; one that hangs must not keep the others from being asked.
	askWithin = time.Second
	// askEvery is the longest pause between two looks for a leader.
	askEvery = 250 * time.Millisecond
	// electWithin is how long a call waits for a leader while heads can be reached but none of them leads.
	electWithin = 10 * time.Second
	// watchInterval is how often the leader is asked whether it still leads while there are streams to it and other heads: one that was
	// stopped would keep them, silent, for as long as connections are trusted.
	watchInterval = 3 * time.Second
	// learnInterval is how often a connection that is used asks again which heads there are.
	learnInterval = 10 * time.Second
)

// Heads is a connection to the head that leads a cluster, whichever that is. It knows some heads by address and learns of the others
// from them. A unary call that meets a head which does not lead, or whose connection breaks, is repeated at the head that leads,
// within its deadline; so every call must be one that may be repeated. A stream that ends so is the caller's to open again, and then
// goes to the head that leads. While no head can be reached at all, calls fail at once.
//
// It is safe for concurrent use. Close ends what is under way.
type Heads struct {
	options []grpc.DialOption
	given   []string
	// watchEvery is watchInterval, and shorter in tests.
	watchEvery time.Duration
	group      *lifecycle.Group
	// leader is the head that last said that it leads; nil while there is none.
	leader atomic.Pointer[peer]
	// finding holds a token while somebody looks for the leader, so that others wait for the result.
	finding chan struct{}
	// learnedAt is when the heads were last asked for, in nanoseconds since 1970.
	learnedAt atomic.Int64

	mu     sync.Mutex
	closed bool
	// hint is where the leader was said to be.
	hint string
	// learned are the heads that a head has told.
	learned []string
	peers   map[string]*peer
	// streams counts those that are open; watching says that there is a goroutine that watches their leader.
	streams  int
	watching bool
}

// peer is a connection to one head. Its fields are constant.
type peer struct {
	address string
	conn    *grpc.ClientConn
}

// SplitAddresses takes a list such as "a:1,b:2" apart. An empty list is an error of kind engine.KindInvalidArgument.
func SplitAddresses(list string) ([]string, error) {
	var addresses []string
	for address := range strings.SplitSeq(list, ",") {
		if address = strings.TrimSpace(address); address != "" && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	if len(addresses) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opConnect, list, "the address of a head is required").WithHint("write HOST:PORT")
	}
	return addresses, nil
}

// DialHeads makes a connection to the heads at a list of addresses, such as "a:1,b:2": one is enough. Nothing is connected before the
// first call. The options are those of Dial.
func DialHeads(list string, options ...grpc.DialOption) (*Heads, error) {
	addresses, err := SplitAddresses(list)
	if err != nil {
		return nil, err
	}
	h := &Heads{
		options: options, given: addresses, watchEvery: watchInterval, group: lifecycle.NewGroup(context.Background(), "heads"),
		finding: make(chan struct{}, 1), peers: map[string]*peer{},
	}
	// What gRPC refuses to connect to is refused now.
	for _, address := range addresses {
		if _, err := h.peer(address); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// Close ends all calls and frees the connections.
func (h *Heads) Close() error {
	h.mu.Lock()
	h.closed = true
	peers := h.peers
	h.peers = nil
	h.mu.Unlock()
	var errs []error
	for _, p := range peers {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(append(errs, h.group.Stop(context.Background()))...)
}

// Invoke implements grpc.ClientConnInterface.
func (h *Heads) Invoke(ctx context.Context, method string, request, reply any, options ...grpc.CallOption) error {
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	return h.atLeader(ctx, func(p *peer) error { return p.conn.Invoke(ctx, method, request, reply, options...) })
}

// NewStream implements grpc.ClientConnInterface. It blocks while the heads elect a leader, 30 s at most.
func (h *Heads) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	var stream grpc.ClientStream
	looking, cancel := withDefaultTimeout(ctx)
	defer cancel()
	err := h.atLeader(looking, func(p *peer) error {
		opened, err := p.conn.NewStream(ctx, desc, method, options...)
		stream = &headStream{ClientStream: opened, heads: h, peer: p}
		return err
	})
	if err != nil {
		return nil, err
	}
	h.opened(stream)
	return stream, nil
}

// atLeader calls the leader, and again for as long as who that is changes, or ctx ends.
func (h *Heads) atLeader(ctx context.Context, call func(*peer) error) error {
	var backoff Backoff
	called, answered := false, false
	for {
		p, err := h.find(ctx, answered)
		switch {
		case err != nil && called:
			return &uncertain{err}
		case err != nil:
			return err
		}
		if err = call(p); err == nil {
			h.learnSometimes(p)
			return nil
		}
		called, answered = true, answered || IsNotLeader(err) != nil && h.areSeveral()
		switch lost := h.lost(p, err); {
		case lost && ctx.Err() != nil:
			return &uncertain{err}
		case !lost:
			return err
		}
		if !backoff.Fresh() {
			backoff.Wait(ctx, nil)
		} else {
			backoff.pause = minPause / 2 // The first time it goes to the next head at once.
		}
	}
}

// areSeveral tells whether more heads than one are known.
func (h *Heads) areSeveral() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.learned) > 1 || len(h.given) > 1
}

// uncertain marks the error of a call that a head may have got, and carried out, before it could not be reached any more.
type uncertain struct{ error }

// Unwrap returns the error.
func (u *uncertain) Unwrap() error { return u.error }

// MayHaveHappened reports whether err leaves open whether a call was carried out: the head that got it ceased to answer, and no other one
// could be asked. The call may be repeated.
func MayHaveHappened(err error) bool {
	var u *uncertain
	return errors.As(err, &u) || engine.KindOf(err) == engine.KindDeadline
}

// lost reports whether err means that p does not lead, or is away, and forgets it then.
func (h *Heads) lost(p *peer, err error) bool {
	leader := IsNotLeader(err)
	if leader == nil && !isAway(err) {
		return false
	}
	h.leader.CompareAndSwap(p, nil)
	if leader != nil && leader.Address != "" {
		h.mu.Lock()
		h.hint = leader.Address
		h.mu.Unlock()
	}
	return true
}

// isAway reports whether err is the connection's own, so that the head may or may not have done what it was asked for.
func isAway(err error) bool {
	var e *engine.Error
	return errors.As(err, &e) && e.Kind == engine.KindUnavailable && e.Op == opConnect
}

// find returns the leader. It waits for an election once one head at least could be reached, or one of several has answered its caller: such a
// head may be slow to say that it has ceased to lead.
func (h *Heads) find(ctx context.Context, answered bool) (*peer, error) {
	if p := h.leader.Load(); p != nil {
		return p, nil
	}
	select {
	case h.finding <- struct{}{}:
		defer func() { <-h.finding }()
	case <-ctx.Done():
		return nil, contextError(ctx, "find the head that leads")
	}
	electing, cancel := context.WithTimeout(ctx, electWithin)
	defer cancel()
	backoff := Backoff{Max: askEvery}
	elects := answered // Heads were reached, and none led.
	for {
		if p := h.leader.Load(); p != nil {
			return p, nil
		}
		p, reached, err := h.ask(electing)
		elects = elects || reached
		switch {
		case p != nil:
			h.leader.Store(p)
			return p, nil
		case ctx.Err() != nil && (!elects || errors.Is(ctx.Err(), context.Canceled)):
			return nil, contextError(ctx, "find the head that leads")
		case electing.Err() != nil && elects:
			return nil, NewNotLeader("find the head that leads", "", "", err)
		case !elects:
			return nil, err
		}
		backoff.Wait(electing, nil)
	}
}

// ask asks each head that is known once, first the one that is said to lead. reached tells whether any has answered; if not, err is why
// the first did not.
func (h *Heads) ask(ctx context.Context) (leader *peer, reached bool, err error) {
	asked := map[string]bool{}
	for {
		address := h.next(asked)
		if address == "" {
			return nil, reached, err
		}
		asked[address] = true
		p, askErr := h.peer(address)
		if askErr == nil {
			var leads bool
			if leads, askErr = h.askOne(ctx, p); leads {
				return p, true, nil
			}
		}
		if askErr == nil {
			reached = true
		} else if err == nil {
			err = askErr
		}
	}
}

// next returns the head to ask next, or "".
func (h *Heads) next(asked map[string]bool) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hint != "" && !asked[h.hint] {
		return h.hint
	}
	for _, all := range [][]string{h.learned, h.given} {
		for _, address := range all {
			if !asked[address] {
				return address
			}
		}
	}
	return ""
}

// askOne asks a head whether it leads, and learns which heads there are.
func (h *Heads) askOne(ctx context.Context, p *peer) (leads bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var response *enginev1.ListHeadsResponse
	response, err = enginev1.NewClusterServiceClient(p.conn).ListHeads(ctx, &enginev1.ListHeadsRequest{})
	if isUnimplemented(err) {
		return true, nil // A server that does not know of several heads is alone.
	}
	if err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.learnedAt.Store(time.Now().UnixNano())
	h.hint = ""
	learned := make([]string, 0, len(response.GetHeads()))
	for _, head := range response.GetHeads() {
		own := head.GetHeadId() == response.GetHeadId()
		switch {
		case own && head.GetLeader():
			leads = true
		case head.GetLeader():
			h.hint = head.GetAddress()
		}
		// The address that it was reached at may be another one than it has for its peers, and is the better one here.
		if !own && head.GetAddress() != "" {
			learned = append(learned, head.GetAddress())
		} else if own {
			learned = append(learned, p.address)
		}
	}
	if len(learned) > 0 {
		h.learned = learned
	}
	return leads, nil
}

// learnSometimes learns which heads there are if that was long ago. It does not block.
func (h *Heads) learnSometimes(p *peer) {
	last, now := h.learnedAt.Load(), time.Now()
	if now.Sub(time.Unix(0, last)) < learnInterval || !h.learnedAt.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	h.group.Go("learn heads", func(ctx context.Context) error {
		if leads, err := h.askOne(ctx, p); err == nil && !leads {
			h.leader.CompareAndSwap(p, nil)
		}
		return nil
	})
}

// opened begins to watch the leader for a stream, until the stream's end.
func (h *Heads) opened(stream grpc.ClientStream) {
	h.mu.Lock()
	h.streams++
	begin := !h.watching
	h.watching = true
	h.mu.Unlock()
	context.AfterFunc(stream.Context(), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.streams--
	})
	if begin {
		h.group.Go("watch leader", h.watch)
	}
}

// watch looks whether the leader still leads, for as long as there are streams. If it does not answer and another head leads, it breaks the
// connection, and with it the streams, which then are opened again there.
func (h *Heads) watch(ctx context.Context) error {
	ticker := time.NewTicker(h.watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		h.mu.Lock()
		several := len(h.learned) > 1
		if h.watching = h.streams > 0; !h.watching {
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		p := h.leader.Load()
		if p == nil || !several {
			continue
		}
		leads, err := h.askOne(ctx, p)
		if err == nil && !leads {
			h.leader.CompareAndSwap(p, nil) // Its streams end by themselves.
		}
		if err == nil {
			continue
		}
		if next := h.askOthers(ctx, p.address); next != nil && h.leader.CompareAndSwap(p, next) {
			h.drop(p)
		}
	}
}

// askOthers returns a head that leads, other than the one at address, or nil.
func (h *Heads) askOthers(ctx context.Context, address string) *peer {
	asked := map[string]bool{address: true}
	for address := h.next(asked); address != ""; address = h.next(asked) {
		asked[address] = true
		if p, err := h.peer(address); err == nil {
			if leads, err := h.askOne(ctx, p); err == nil && leads {
				return p
			}
		}
	}
	return nil
}

// drop breaks the connection to a head.
func (h *Heads) drop(p *peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peers[p.address] == p {
		delete(h.peers, p.address)
		_ = p.conn.Close() // What is on it fails, as it should.
	}
}

// peer returns the connection to a head. One that has failed is replaced: gRPC would wait before it tries again.
func (h *Heads) peer(address string) (*peer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, engine.Errorf(engine.KindCanceled, opConnect, address, "the connection is closed")
	}
	p := h.peers[address]
	if p != nil {
		if state := p.conn.GetState(); state != connectivity.TransientFailure && state != connectivity.Shutdown {
			return p, nil
		}
		delete(h.peers, address)
		_ = p.conn.Close() // Nothing is on a connection that has failed.
	}
	conn, err := Dial(address, h.options...)
	if err != nil {
		return nil, err
	}
	p = &peer{address: address, conn: conn}
	h.peers[address] = p
	return p, nil
}

// isUnimplemented reports whether a server lacks the method that it was asked for.
func isUnimplemented(err error) bool {
	var foreign *foreignError
	return errors.As(err, &foreign) && foreign.code == codes.Unimplemented
}

// headStream is a stream to the head that led when it was opened.
type headStream struct {
	grpc.ClientStream
	heads *Heads
	peer  *peer
}

// RecvMsg implements grpc.ClientStream.
func (s *headStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.heads.lost(s.peer, err)
		return err
	}
	s.heads.learnSometimes(s.peer)
	return nil
}
