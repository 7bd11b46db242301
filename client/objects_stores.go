package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/hostid"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// nearStore is a store of this machine, reached over its unix socket: *local.Client.
type nearStore interface {
	Put(ctx context.Context, id engine.ObjectID, encoding *table.Encoding) (objectstore.Info, error)
	Get(ctx context.Context, id engine.ObjectID, options local.GetOptions) (*table.Table, objectstore.Info, error)
	Delete(ctx context.Context, ids ...engine.ObjectID) error
	Done() <-chan struct{}
	Close() error
}

// farStore is a store that is reached over the network: *transfer.Client.
type farStore interface {
	Put(ctx context.Context, id engine.ObjectID, session, domain string, encoding *table.Encoding) (objectstore.Info, error)
	Get(ctx context.Context, id engine.ObjectID) (*table.Table, error)
	Close() error
}

// objects is the client's way to objects: its session, and its connections to stores.
type objects struct {
	// Constant.
	service  enginev1.ObjectServiceClient
	group    *lifecycle.Group
	session  *session
	host     string
	dialNear func(ctx context.Context, socket string) (nearStore, error)
	dialFar  func(ctx context.Context, address string) (farStore, error)
	// farOptions are those of connections to stores over the network. They are set before the first.
	farOptions []grpc.DialOption
	// spread chooses among the stores of this machine, so that its clients share them.
	spread int

	// name is the cluster's id, nil before the head has said it; found are the stores of this machine, nil before the first look.
	name  atomic.Pointer[string]
	found atomic.Pointer[found]

	mu sync.Mutex
	// looking is closed when the look at the stores that goes on is over; nil while none does.
	looking chan struct{}
	// flights are the connections to other stores by address; nil once the client is closed.
	flights map[string]farStore
}

// found is the outcome of a look at the cluster's stores. It is immutable.
type found struct {
	// stores are the connections to stores of this machine, by the sockets' paths in sockets.
	stores  []nearStore
	sockets []string
	// session is the one to which belongs what is put there.
	session string
	// err is why the list of the cluster's stores, or a store of this machine, could not be had.
	err error
	at  time.Time
}

const (
	// lookAgain is the age from which on a look at the stores is repeated in the background, and lookAgainEmpty that of one that found
	// no store of this machine, or one that was lost since.
	lookAgain      = 15 * time.Second
	lookAgainEmpty = time.Second
	lookTimeout    = 10 * time.Second
)

func newObjects(conn grpc.ClientConnInterface) *objects {
	o := &objects{
		service: enginev1.NewObjectServiceClient(conn), group: lifecycle.NewGroup(context.Background(), "client"), host: hostid.ID(),
		spread: rand.IntN(1 << 20), flights: map[string]farStore{}, //nolint:gosec // Spreading load needs no secrecy.
	}
	o.session = &session{
		client: fmt.Sprintf("%s/%d", filepath.Base(os.Args[0]), os.Getpid()), service: o.service, group: o.group,
		heard: o.heard,
	}
	o.session.name.Store(newSessionID())
	o.dialNear, o.dialFar = o.openNear, o.openFar
	return o
}

// openNear connects to a store of this machine; what is put there belongs to the session.
func (o *objects) openNear(ctx context.Context, socket string) (nearStore, error) {
	store, err := local.Dial(ctx, socket, local.Options{
		Client: o.session.client, Session: o.session.id(),
	})
	if err != nil {
		return nil, err
	}
	return store, nil
}

func (o *objects) openFar(ctx context.Context, address string) (farStore, error) {
	store, err := transfer.Dial(ctx, address, o.farOptions...)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// heard takes in the cluster's id.
func (o *objects) heard(cluster string) {
	if cluster != "" && o.clusterID() != cluster {
		o.name.Store(&cluster)
	}
}

// clusterID is the cluster's id, or empty while the head has not said it.
func (o *objects) clusterID() string {
	if name := o.name.Load(); name != nil {
		return *name
	}
	return ""
}

// cluster is clusterID, asked for if need be.
func (o *objects) cluster(ctx context.Context) (string, error) {
	if o.clusterID() == "" {
		response, err := o.service.ListStores(ctx, &enginev1.ListStoresRequest{})
		if err != nil {
			return "", err
		}
		o.heard(response.GetClusterId())
	}
	return o.clusterID(), nil
}

// check refuses a reference that is not of the client's cluster.
func (o *objects) check(ctx context.Context, op string, ref engine.ObjectRef) error {
	if ref.ID == (engine.ObjectID{}) {
		return engine.Errorf(engine.KindInvalidArgument, op, ref.String(), "the reference names no object")
	}
	if ref.Cluster == "" {
		return nil
	}
	cluster, err := o.cluster(ctx)
	if err != nil {
		return err
	}
	if ref.Cluster != cluster {
		return engine.Errorf(engine.KindInvalidArgument, op, ref.String(), "the object belongs to cluster %s, and this client to %s", ref.Cluster, cluster).
			WithHint("an object reaches another cluster through a checkpoint: Checkpoint there, Restore here")
	}
	return nil
}

// near returns the stores of this machine that are connected, and why there are none. It asks the head only if it must.
func (o *objects) near(ctx context.Context) ([]nearStore, error) {
	for {
		last := o.found.Load()
		if last == nil {
			if err := o.await(ctx, o.look()); err != nil {
				return nil, err
			}
			continue
		}
		if len(last.stores) > 0 && last.session != o.session.id() {
			// The session has ended: what is put over these connections would go with it.
			if err := o.await(ctx, o.look()); err != nil {
				return nil, err
			}
			if o.found.Load() == last {
				return nil, errClosed
			}
			continue
		}
		live := last.stores
		for i, store := range live {
			if gone(store) {
				live = withoutGone(last.stores, i)
				break
			}
		}
		age := time.Since(last.at)
		switch {
		case len(live) == len(last.stores) && len(live) > 0:
			if age > lookAgain {
				o.look()
			}
		case age > lookAgainEmpty:
			// Somebody waits for a store: the one that was lost may be back at another socket.
			if err := o.await(ctx, o.look()); err != nil {
				return nil, err
			}
			if o.found.Load() != last {
				continue
			}
		}
		return live, last.err
	}
}

// gone tells whether a store's connection has ended.
func gone(store nearStore) bool {
	select {
	case <-store.Done():
		return true
	default:
		return false
	}
}

// withoutGone copies those stores that are not gone; all before first are not.
func withoutGone(stores []nearStore, first int) []nearStore {
	live := append([]nearStore(nil), stores[:first]...)
	for _, store := range stores[first:] {
		if !gone(store) {
			live = append(live, store)
		}
	}
	return live
}

// stores returns the addresses of the cluster's stores that can be reached over the network, as the head says now.
func (o *objects) stores(ctx context.Context) ([]*enginev1.ObjectStoreAddress, error) {
	response, err := o.service.ListStores(ctx, &enginev1.ListStoresRequest{})
	if err != nil {
		return nil, err
	}
	o.heard(response.GetClusterId())
	var reachable []*enginev1.ObjectStoreAddress
	for _, store := range response.GetStores() {
		if store.GetFlight() != "" {
			reachable = append(reachable, store)
		}
	}
	return reachable, nil
}

func (o *objects) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return engine.WrapError("find object stores", "", context.Cause(ctx))
	}
}

// look begins a look at the cluster's stores, unless one goes on, and returns what is closed at its end.
func (o *objects) look() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looking != nil {
		return o.looking
	}
	done := make(chan struct{})
	ok := o.group.Go("look", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		next := o.connect(ctx, o.found.Load())
		// The next look goes on from what this one found: begun before that is there, it would dial again.
		o.found.Store(next)
		o.mu.Lock()
		o.looking = nil
		o.mu.Unlock()
		close(done)
		return nil
	})
	if !ok {
		o.found.CompareAndSwap(nil, &found{err: errClosed, at: time.Now()})
		close(done)
		return done
	}
	o.looking = done
	return done
}

// connect asks the head for the stores and connects to those of this machine. What is connected for the present session stays, even if
// the head has lost it.
func (o *objects) connect(ctx context.Context, last *found) *found {
	next := &found{at: time.Now(), session: o.session.id()}
	if last != nil {
		for i, store := range last.stores {
			if last.session != next.session || gone(store) {
				_ = store.Close() // nothing is to come over it any more
				continue
			}
			next.stores, next.sockets = append(next.stores, store), append(next.sockets, last.sockets[i])
		}
	}
	response, err := o.service.ListStores(ctx, &enginev1.ListStoresRequest{})
	if err != nil {
		next.err = err
		return next
	}
	o.heard(response.GetClusterId())
	var failures []error
	for _, address := range response.GetStores() {
		socket := address.GetSocket()
		if socket == "" || o.host == "" || address.GetHostId() != o.host || slices.Contains(next.sockets, socket) {
			continue
		}
		store, err := o.dialNear(ctx, socket)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		next.stores, next.sockets = append(next.stores, store), append(next.sockets, socket)
	}
	next.err = errors.Join(failures...)
	return next
}

// far returns the connection to a store's Flight service.
func (o *objects) far(ctx context.Context, address string) (farStore, error) {
	o.mu.Lock()
	store, closed := o.flights[address], o.flights == nil
	o.mu.Unlock()
	switch {
	case closed:
		return nil, errClosed
	case store != nil:
		return store, nil
	}
	store, err := o.dialFar(ctx, address)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch first := o.flights[address]; {
	case o.flights == nil:
		_ = store.Close() // nothing was asked over it
		return nil, errClosed
	case first != nil:
		_ = store.Close() // nothing was asked over it
		return first, nil
	}
	o.flights[address] = store
	return store, nil
}

// close ends the session and the connections. Tables that are open stay readable.
func (o *objects) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	err := o.group.Stop(ctx)
	o.session.open.Store(false)
	o.mu.Lock()
	flights := o.flights
	o.flights = nil
	o.mu.Unlock()
	for _, store := range flights {
		err = errors.Join(err, store.Close())
	}
	if last := o.found.Swap(&found{err: errClosed, at: time.Now()}); last != nil {
		for _, store := range last.stores {
			err = errors.Join(err, store.Close())
		}
	}
	return err
}
