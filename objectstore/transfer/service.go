package transfer

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

// ServiceConfig is what a Service is made of.
type ServiceConfig struct {
	// Store is served. Required.
	Store *objectstore.Store
	// Node is the worker that owns the store.
	Node engine.NodeID
	// Cluster returns the id of the node's cluster, against which references are checked. Nil, and an empty id, allow every cluster.
	Cluster func() string
	// Address returns the "host:port" at which clients reach the service. Nil, and an empty address, mean the one that the client used.
	Address func() string
	// TLS says that clients reach the service, and those of other holders, by TLS. The locations in flight infos tell them.
	TLS bool
	// Locate finds the other holders of an object, for GetFlightInfo. Nil means that only this node is known.
	Locate Locate
	// Fetch brings a copy of an object into the store. Nil means that only local objects are served.
	Fetch func(ctx context.Context, id engine.ObjectID) error
	// Delete deletes objects everywhere. Nil means in the store alone.
	Delete func(ctx context.Context, ids []engine.ObjectID) error
	// DefaultOwner says who owns what a client puts, or why nobody can; it is called before anything is received. A pin with an empty id
	// gets the object's id. Nil means OwnerOf, which believes in every session.
	DefaultOwner func(ctx context.Context) (engine.ObjectOwner, error)
	// MayUse decides whether the caller of a handler may read, delete, or put an object of a security domain; op names what it does, and id
	// the object. Nil means that everybody may.
	MayUse func(ctx context.Context, op, id, domain string) error
	// Home returns the security domain of what a caller puts without naming one. Nil means objectstore.DefaultDomain.
	Home func(ctx context.Context) string
	// MaxBytesInFlight bounds the memory outside of the store that puts of unknown size take together; such an object may have half of
	// it. Zero means 4 GiB, or the store's capacity if that is less.
	MaxBytesInFlight int64
	// MaxSends bounds the large objects that are sent to other nodes at the same time. Who comes then waits a moment, and is told to look
	// for another holder: there may be one by then. Zero means 4.
	MaxSends int64
	// MaxPuts bounds the puts that are received at the same time, each of which has two messages in memory outside of the store at most.
	// Who comes then waits for as long as Patience, and is refused. Zero means 64.
	MaxPuts int64
	// Patience is how long a client may send nothing in the middle of a put. Zero means 30 s.
	Patience time.Duration
	// Logger is told of objects that could not be sent as they are. Nil means nobody is.
	Logger *slog.Logger
}

// Service is the Flight service of one node. It is safe for concurrent use.
//
// A ticket, the one part of a descriptor's path, and a descriptor's command are the text of an object's id or reference. DoPut with an
// empty path makes an object of a random id, which the result's metadata says; so it does with the path's id. Who owns it, the call's
// headers say: see OwnerOf. Errors carry the engine's kinds if the server converts them, as that of internal/rpc does.
type Service struct {
	flight.BaseFlightServer
	config ServiceConfig
	room   *room
	sends  *semaphore.Weighted
	puts   *semaphore.Weighted
}

// NewService makes a Service. It holds nothing that has to be closed.
func NewService(config ServiceConfig) *Service {
	if config.MaxBytesInFlight <= 0 {
		config.MaxBytesInFlight = min(4<<30, config.Store.Usage().CapacityBytes)
	}
	if config.MaxSends <= 0 {
		config.MaxSends = 4
	}
	if config.MaxPuts <= 0 {
		config.MaxPuts = 64
	}
	if config.Patience <= 0 {
		config.Patience = patience
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.DefaultOwner == nil {
		config.DefaultOwner = OwnerOf
	}
	if config.MayUse == nil {
		config.MayUse = func(context.Context, string, string, string) error { return nil }
	}
	if config.Home == nil {
		config.Home = func(context.Context) string { return objectstore.DefaultDomain }
	}
	return &Service{
		config: config, room: newRoom(config.MaxBytesInFlight),
		sends: semaphore.NewWeighted(config.MaxSends), puts: semaphore.NewWeighted(config.MaxPuts),
	}
}

// The headers of a put that say who owns the object.
const (
	// HeaderSession names the session that owns it.
	HeaderSession = "engine-session"
	// HeaderTTL is how long an object without a session is pinned, such as "90m".
	HeaderTTL = "engine-ttl"
)

// defaultTTL is how long an object lives whose client did not say.
const defaultTTL = time.Hour

// OwnerOf returns the owner that the headers of a put name: the session of HeaderSession, else a pin for the time of HeaderTTL, which is
// an hour if there is none.
func OwnerOf(ctx context.Context) (engine.ObjectOwner, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	if session := headers.Get(HeaderSession); len(session) > 0 && session[0] != "" {
		return engine.ObjectOwner{Kind: engine.OwnerSession, ID: session[0]}, nil
	}
	ttl := defaultTTL
	if text := headers.Get(HeaderTTL); len(text) > 0 {
		var err error
		if ttl, err = time.ParseDuration(text[0]); err != nil || ttl <= 0 {
			return engine.ObjectOwner{}, engine.Errorf(engine.KindInvalidArgument, "put object", "", "header %s: %q is not a time such as 90m", HeaderTTL, text[0])
		}
	}
	return engine.ObjectOwner{Kind: engine.OwnerPin, Expires: time.Now().Add(ttl)}, nil
}

// owner returns who owns an object that a client puts.
func (s *Service) owner(ctx context.Context, id engine.ObjectID) (engine.ObjectOwner, error) {
	owner, err := s.config.DefaultOwner(ctx)
	if err == nil && owner.Kind == engine.OwnerPin && owner.ID == "" {
		owner.ID = id.String()
	}
	return owner, err
}

// parseRef reads a reference to an object of this cluster.
func (s *Service) parseRef(op, text string) (engine.ObjectID, error) {
	ref, err := engine.ParseObjectRef(text)
	if err != nil {
		return engine.ObjectID{}, engine.WrapError(op, "", err)
	}
	return ref.ID, s.checkCluster(op, ref)
}

func (s *Service) checkCluster(op string, ref engine.ObjectRef) error {
	if ref.Cluster == "" || s.config.Cluster == nil {
		return nil
	}
	if own := s.config.Cluster(); own != "" && own != ref.Cluster {
		return engine.Errorf(engine.KindInvalidArgument, op, ref.String(), "the object belongs to cluster %s, this is a node of cluster %s", ref.Cluster, own)
	}
	return nil
}

// get returns a handle of an object that the caller may read, and brings it here first if need be.
func (s *Service) get(ctx context.Context, id engine.ObjectID, fetch bool) (*objectstore.Handle, error) {
	handle, err := s.find(ctx, id, fetch)
	if err != nil {
		return nil, err
	}
	if err := s.config.MayUse(ctx, "get object", id.String(), handle.Info().Domain); err != nil {
		handle.Release()
		return nil, err
	}
	return handle, nil
}

func (s *Service) find(ctx context.Context, id engine.ObjectID, fetch bool) (*objectstore.Handle, error) {
	handle, err := s.config.Store.Get(ctx, id)
	if err == nil || !fetch || s.config.Fetch == nil || engine.KindOf(err) != engine.KindNotFound {
		return handle, err
	}
	if err := s.config.Fetch(ctx, id); err != nil {
		return nil, engine.WrapError("get object", id.String(), err)
	}
	return s.config.Store.Get(ctx, id)
}

// open returns the decoded object, which holds the handle until it is released.
func (s *Service) open(ctx context.Context, id engine.ObjectID) (*table.Table, objectstore.Info, error) {
	handle, err := s.get(ctx, id, true)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	// What is in the store was checked before it was sealed.
	t, err := table.Open(handle.Bytes(), table.Options{Trusted: true, Release: handle.Release})
	if err != nil {
		handle.Release()
		s.config.Logger.ErrorContext(ctx, "object of the store cannot be read", "object", id.String(), "error", err)
		return nil, objectstore.Info{}, engine.WrapError("get object", id.String(), err)
	}
	return t, handle.Info(), nil
}

// Handshake implements flight.FlightServer.
func (s *Service) Handshake(flight.FlightService_HandshakeServer) error {
	return status.Error(codes.Unimplemented, "handshake: this server does not authenticate its clients; call it without")
}

// DoExchange implements flight.FlightServer.
func (s *Service) DoExchange(flight.FlightService_DoExchangeServer) error {
	return status.Error(codes.Unimplemented, "exchange: objects are got with DoGet and put with DoPut")
}

// PollFlightInfo implements flight.FlightServer.
func (s *Service) PollFlightInfo(context.Context, *flight.FlightDescriptor) (*flight.PollInfo, error) {
	return nil, status.Error(codes.Unimplemented, "poll: objects are complete once they can be seen; call GetFlightInfo")
}

// describe reads the object that a descriptor names.
func (s *Service) describe(op string, d *flight.FlightDescriptor) (engine.ObjectID, error) {
	switch {
	case d.GetType() == flight.DescriptorPATH && len(d.GetPath()) == 1:
		return s.parseRef(op, d.GetPath()[0])
	case d.GetType() == flight.DescriptorCMD:
		return s.parseRef(op, string(d.GetCmd()))
	default:
		return engine.ObjectID{}, engine.Errorf(engine.KindInvalidArgument, op, strings.Join(d.GetPath(), "/"), "a descriptor has a path of one object id or a command that is one")
	}
}

// ListFlights implements flight.FlightServer: it sends all objects of the node's store, without their schemas, for which objects would
// have to be read.
func (s *Service) ListFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	if len(criteria.GetExpression()) > 0 {
		return engine.Errorf(engine.KindInvalidArgument, "list flights", "", "there are no criteria to list objects by; send none")
	}
	for _, info := range s.config.Store.List() {
		if info.State == engine.ObjectPending || s.config.MayUse(stream.Context(), "list flights", info.ID.String(), info.Domain) != nil {
			continue
		}
		if err := stream.Send(s.flightInfo(info, nil)); err != nil {
			return err
		}
	}
	return nil
}

// GetFlightInfo implements flight.FlightServer. The one endpoint has a location for each holder.
func (s *Service) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	id, err := s.describe("get flight info", d)
	if err != nil {
		return nil, err
	}
	t, info, err := s.open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	var holders []Holder
	if s.config.Locate != nil {
		if holders, err = s.config.Locate(ctx, id); err != nil {
			return nil, engine.WrapError("get flight info", id.String(), err)
		}
	}
	result := s.flightInfo(info, holders)
	result.Schema = flight.SerializeSchema(t.Schema(), memory.DefaultAllocator)
	return result, nil
}

// GetSchema implements flight.FlightServer.
func (s *Service) GetSchema(ctx context.Context, d *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	id, err := s.describe("get schema", d)
	if err != nil {
		return nil, err
	}
	t, _, err := s.open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	return &flight.SchemaResult{Schema: flight.SerializeSchema(t.Schema(), memory.DefaultAllocator)}, nil
}

func (s *Service) flightInfo(info objectstore.Info, holders []Holder) *flight.FlightInfo {
	scheme := "grpc+tcp://"
	if s.config.TLS {
		scheme = "grpc+tls://"
	}
	var locations []*flight.Location
	add := func(address string) {
		if address != "" {
			locations = append(locations, &flight.Location{Uri: scheme + address})
		}
	}
	if s.config.Address != nil {
		add(s.config.Address())
	}
	for _, h := range holders {
		if h.Node != s.config.Node {
			add(h.Address)
		}
	}
	id := info.ID.String()
	return &flight.FlightInfo{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{id}},
		Endpoint:         []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: []byte(id)}, Location: locations}},
		TotalRecords:     info.Rows,
		TotalBytes:       info.SizeBytes,
	}
}
