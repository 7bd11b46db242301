package access_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/audit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// book knows the credentials of a test: those that begin with slow- only to who may wait.
type book map[string]access.Identity

func (b book) Recall(credential string) (access.Identity, bool, error) {
	if strings.HasPrefix(credential, "slow-") {
		return access.Identity{}, false, nil
	}
	identity, err := b.Authenticate(context.Background(), credential)
	return identity, err == nil, err
}

func (b book) Authenticate(_ context.Context, credential string) (access.Identity, error) {
	if identity, ok := b[credential]; ok {
		return identity, nil
	}
	return access.Identity{}, engine.Errorf(engine.KindUnauthenticated, "check token", "", "there is no such token")
}

var everyone = book{
	"viewer": {Name: "vera", Method: access.ByToken, Roles: access.Viewer, Queues: []string{"q"}},
	"submit": {Name: "sam", Method: access.ByToken, Roles: access.Submit, Queues: []string{"q"}}, "slow-submit": {Name: "sam", Method: access.ByOIDC, Roles: access.Submit, Queues: []string{"q"}},
	"operate": {Name: "olga", Method: access.ByToken, Roles: access.Operate, Queues: []string{"*"}}, "slow-operate": {Name: "olga", Method: access.ByToken, Roles: access.Operate, Queues: []string{"*"}},
}

func newGuard(t *testing.T, config access.Config) *access.Guard {
	t.Helper()
	if config.Credentials == nil {
		config.Credentials = everyone
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return access.NewGuard(config)
}

// services are some of the engine's, which say who calls.
type services struct {
	enginev1.UnimplementedJobServiceServer
	enginev1.UnimplementedAccessServiceServer
	flight.BaseFlightServer
	calls atomic.Int64
	// joins, unless nil, serves those of nobody.
	joins *joins
	// A call of WhoAmI says that it has come, and waits.
	come, hold chan struct{}
}

func (s *services) WhoAmI(ctx context.Context, _ *enginev1.WhoAmIRequest) (*enginev1.WhoAmIResponse, error) {
	s.calls.Add(1)
	if s.hold != nil {
		s.come <- struct{}{}
		<-s.hold
	}
	return &enginev1.WhoAmIResponse{Identity: access.ToProto(access.Of(ctx))}, nil
}

func (s *services) StopJob(ctx context.Context, r *enginev1.StopJobRequest) (*enginev1.StopJobResponse, error) {
	s.calls.Add(1)
	return &enginev1.StopJobResponse{}, access.Check(ctx, "stop job", r.GetJobId(), "other")
}

func (s *services) WatchJob(_ *enginev1.WatchJobRequest, stream grpc.ServerStreamingServer[enginev1.WatchJobResponse]) error {
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	for {
		if err := stream.Send(&enginev1.WatchJobResponse{Job: &enginev1.Job{Name: string([]rune(string(noise)))}}); err != nil {
			s.calls.Add(1)
			return err
		}
	}
}

func (s *services) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	s.calls.Add(1)
	return stream.Send(&flight.Result{Body: []byte(a.GetType())})
}

// serve runs services behind a guard, and returns their address.
func serve(t *testing.T, g *access.Guard, s *services) string {
	t.Helper()
	server := rpc.NewServer(slog.New(slog.DiscardHandler), g.ServerOptions()...)
	enginev1.RegisterJobServiceServer(server, s)
	enginev1.RegisterAccessServiceServer(server, s)
	flight.RegisterFlightServiceServer(server, s)
	if s.joins != nil {
		enginev1.RegisterJoinServiceServer(server, s.joins)
	}
	// One that no rule is for.
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "engine.v1.Hidden", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Do", Handler: func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			s.calls.Add(1)
			return &enginev1.WhoAmIResponse{}, nil
		},
	}}}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(g.Listen(listener)) }()
	t.Cleanup(func() {
		server.Stop()
		check(t, <-ended)
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address, token string) *grpc.ClientConn {
	t.Helper()
	var options []grpc.DialOption
	if token != "" {
		credentials, err := rpc.Bearer(func() (string, error) { return token, nil })
		check(t, err)
		options = append(options, grpc.WithPerRPCCredentials(credentials))
	}
	conn, err := rpc.Dial(address, options...)
	check(t, err)
	t.Cleanup(func() { check(t, conn.Close()) })
	return conn
}

// stranger is a user that nobody is.
func stranger() int { return os.Getuid() + 1 }

func TestGuard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(audit.Config{Dir: dir})
	check(t, err)
	s := &services{}
	address := serve(t, newGuard(t, access.Config{Audit: log, UID: stranger}), s)
	ctx := t.Context()
	who := func(token string) (*enginev1.WhoAmIResponse, error) {
		return enginev1.NewAccessServiceClient(dial(t, address, token)).WhoAmI(ctx, &enginev1.WhoAmIRequest{})
	}
	for token, name := range map[string]string{"viewer": "vera", "slow-submit": "sam"} {
		known, err := who(token)
		check(t, err)
		if known.GetIdentity().GetName() != name {
			t.Errorf("%s is %v", token, known)
		}
	}
	called := s.calls.Load()
	for _, token := range []string{"nobody", "slow-nobody"} {
		_, err = who(token)
		wantKind(t, err, engine.KindUnauthenticated, "no such token")
	}
	// The same machine, and another user than the one whose server it is.
	_, err = who("")
	wantKind(t, err, engine.KindUnauthenticated, "another user of this machine", "engine token create")
	for _, token := range []string{"viewer", "submit", "operate"} {
		err = dial(t, address, token).Invoke(ctx, "/engine.v1.Hidden/Do", &enginev1.WhoAmIRequest{}, &enginev1.WhoAmIResponse{})
		wantKind(t, err, engine.KindPermission, "no rule")
	}
	stop := func(token string) error {
		_, err := enginev1.NewJobServiceClient(dial(t, address, token)).StopJob(ctx, &enginev1.StopJobRequest{JobId: "j"})
		return err
	}
	wantKind(t, stop("viewer"), engine.KindPermission, "vera (token) has the role viewer, and needs one of submit, operate, admin")
	if s.calls.Load() != called {
		t.Error("a handler was called that must not be")
	}
	wantKind(t, stop("submit"), engine.KindPermission, "queue that sam (token) is not granted")
	check(t, stop("operate"))
	check(t, log.Close())
	var lines []string
	_, err = audit.Verify(ctx, dir, nil, func(e audit.Entry) error {
		lines = append(lines, e.Who+" "+e.Call+" "+e.Target+" "+map[bool]string{true: "allowed", false: "refused"}[e.Allowed])
		if e.From == "" || strings.Contains(e.Reason, "slow-nobody") {
			t.Errorf("the entry %+v", e)
		}
		return nil
	})
	check(t, err)
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		"nobody /engine.v1.AccessService/WhoAmI  refused", "vera /engine.v1.JobService/StopJob  refused", "sam /engine.v1.JobService/StopJob job j allowed",
		"sam /engine.v1.JobService/StopJob job j refused", "olga /engine.v1.JobService/StopJob job j allowed", "vera /engine.v1.Hidden/Do  refused",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit log lacks %q:\n%s", want, all)
		}
	}
}

func TestOwnUserNeedsNothing(t *testing.T) {
	known, err := enginev1.NewAccessServiceClient(dial(t, serve(t, newGuard(t, access.Config{}), &services{}), "")).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	check(t, err)
	i := access.FromProto(known.GetIdentity())
	if i.Method != access.ByKernel || i.Roles != access.Admin|access.Worker || !i.IsUnrestricted() {
		t.Errorf("%+v", i)
	}
	// A token decides even so: who shows one wants to be what it says.
	_, err = enginev1.NewAccessServiceClient(dial(t, serve(t, newGuard(t, access.Config{}), &services{}), "wrong")).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	wantKind(t, err, engine.KindUnauthenticated)
	_, err = enginev1.NewAccessServiceClient(dial(t, serve(t, newGuard(t, access.Config{TokensOnly: true}), &services{}), "")).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	wantKind(t, err, engine.KindUnauthenticated, "does not say who it is")
}

func TestActions(t *testing.T) {
	s := &services{}
	address := serve(t, newGuard(t, access.Config{UID: stranger}), s)
	act := func(token, action string) error {
		stream, err := flight.NewFlightServiceClient(dial(t, address, token)).DoAction(t.Context(), &flight.Action{Type: action})
		check(t, err)
		_, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	check(t, act("viewer", "info"))
	check(t, act("submit", "delete"))
	called := s.calls.Load()
	wantKind(t, act("viewer", "delete"), engine.KindPermission, "action:delete", "vera")
	wantKind(t, act("nobody", "info"), engine.KindUnauthenticated)
	if s.calls.Load() != called {
		t.Error("the service was asked")
	}
}

func TestLimitsOfAnIdentity(t *testing.T) {
	now := time.Now()
	var ahead atomic.Int64
	s := &services{come: make(chan struct{}, 10), hold: make(chan struct{})}
	address := serve(t, newGuard(t, access.Config{
		UID: stranger, Limits: access.Limits{RequestsPerSecond: 3, RequestBurst: 3, Concurrent: 2},
		Now: func() time.Time { return now.Add(time.Duration(ahead.Load())) },
	}), s)
	client := enginev1.NewAccessServiceClient(dial(t, address, "viewer"))
	waiting := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := client.WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
			waiting <- err
		}()
		<-s.come
	}
	_, err := client.WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	wantKind(t, err, engine.KindExhausted, "2 calls under way")
	close(s.hold)
	for range 2 {
		check(t, <-waiting)
	}
	// Another one is not concerned.
	_, err = enginev1.NewAccessServiceClient(dial(t, address, "operate")).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	check(t, err)
	ahead.Add(int64(time.Minute))
	for range 3 {
		_, err = client.WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
		check(t, err)
	}
	_, err = client.WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	wantKind(t, err, engine.KindExhausted, "3 calls a second")
}

func TestRefusalsAreBounded(t *testing.T) {
	now := time.Now()
	address := serve(t, newGuard(t, access.Config{UID: stranger, Limits: access.Limits{RefusalsPerSecond: 5}, Now: func() time.Time { return now }}), &services{})
	try := func(token string) error {
		_, err := enginev1.NewAccessServiceClient(dial(t, address, token)).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
		return err
	}
	for range 5 {
		wantKind(t, try("guess"), engine.KindUnauthenticated)
	}
	wantKind(t, try("guess"), engine.KindExhausted, "too many calls from there were refused")
	check(t, try("viewer")) // Who is somebody is not held up by others of the same machine.
}

func TestConnectionsAreBounded(t *testing.T) {
	g := newGuard(t, access.Config{Limits: access.Limits{Connections: 2}})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	listener := g.Listen(inner)
	accepted := make(chan net.Conn, 10)
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	defer func() {
		check(t, listener.Close())
		for conn := range accepted {
			check(t, conn.Close())
		}
	}()
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		check(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	connect()
	connect()
	first, second := <-accepted, <-accepted
	surplus := connect()
	if _, err := surplus.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection is answered")
	}
	// One that is closed twice is counted once.
	check(t, errors.Join(first.Close(), ignoreClosed(first.Close())))
	connect()
	third := <-accepted
	if _, err := connect().Read(make([]byte, 1)); err == nil {
		t.Error("a connection too many is answered")
	}
	check(t, errors.Join(second.Close(), third.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func TestSlowClientIsDropped(t *testing.T) {
	s := &services{}
	address := serve(t, newGuard(t, access.Config{Limits: access.Limits{SlowClient: 50 * time.Millisecond}}), s)
	stream, err := enginev1.NewJobServiceClient(dial(t, address, "")).WatchJob(t.Context(), &enginev1.WatchJobRequest{})
	check(t, err)
	// Nothing is read until the server has given up.
	for deadline := time.Now().Add(time.Minute); s.calls.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the stream goes on")
		}
		time.Sleep(time.Millisecond) // sleep: there is nothing to wait on at the client, which must not read.
	}
	for err == nil {
		_, err = stream.Recv()
	}
	wantKind(t, err, engine.KindDeadline, "unread")
}

func TestServerWithoutTapIsClosed(t *testing.T) {
	g := newGuard(t, access.Config{})
	options := g.ServerOptions()
	server := rpc.NewServer(slog.New(slog.DiscardHandler), options[1:]...)
	s := &services{}
	enginev1.RegisterAccessServiceServer(server, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(g.Listen(listener)) }()
	defer func() {
		server.Stop()
		check(t, <-ended)
	}()
	_, err = enginev1.NewAccessServiceClient(dial(t, listener.Addr().String(), "")).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	wantKind(t, err, engine.KindInternal, "not looked at")
	if s.calls.Load() != 0 {
		t.Error("the handler was called")
	}
}

func TestHeaders(t *testing.T) {
	long := strings.Repeat("x", 17<<10)
	for _, test := range []struct {
		values []string
		want   string
		word   string
	}{
		{nil, "", ""}, {[]string{"Bearer a"}, "a", ""}, {[]string{"bearer  a "}, "a", ""}, {[]string{"Bearer a", "Bearer b"}, "", "2 authorization headers"},
		{[]string{"Basic a"}, "", "another scheme"}, {[]string{"a"}, "", "another scheme"}, {[]string{""}, "", "another scheme"}, {[]string{"Bearer "}, "", "no token"},
		{[]string{"Bearer a b"}, "", "a character"}, {[]string{"Bearer a\x00"}, "", "a character"}, {[]string{"Bearer ä"}, "", "a character"}, {[]string{"Bearer " + long}, "", "16384"},
	} {
		got, err := access.CredentialIn(test.values)
		if got != test.want || (err != nil) != (test.word != "") || err != nil && !strings.Contains(err.Error(), test.word) {
			t.Errorf("%.40q: %q, %v", test.values, got, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("Bearer engt_abc")
	f.Add("bEARER \t")
	f.Fuzz(func(t *testing.T, value string) {
		credential, err := access.CredentialIn([]string{value})
		if err == nil && (credential == "" || strings.ContainsAny(credential, " \n\x00") || !strings.Contains(value, credential)) {
			t.Errorf("%q holds %q", value, credential)
		}
	})
}

func TestWeb(t *testing.T) {
	g := newGuard(t, access.Config{})
	routes := g.NewWeb("engine.example")
	routes.Handle("GET /metrics", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "loose", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "strict", Value: "1", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		_, _ = io.WriteString(w, access.Of(r.Context()).String())
	}))
	routes.Handle("GET /healthz", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a route without a rule is taken")
			}
		}()
		routes.Handle("POST /metrics", http.NotFoundHandler())
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := &http.Server{Handler: routes, ConnContext: access.ConnContext, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(g.Listen(listener)) }()
	defer func() {
		check(t, server.Close())
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	}()
	own := listener.Addr().String()
	for name, test := range map[string]struct {
		method, path, host string
		headers            map[string]string
		want               int
	}{
		"own user":                 {want: 200},
		"by name":                  {host: "localhost:1", want: 200},
		"by a known name":          {host: "ENGINE.example", want: 200},
		"IPv6":                     {host: "[::1]:8265", want: 200},
		"DNS rebinding":            {host: "attacker.example", want: 403},
		"DNS rebinding of a probe": {host: "attacker.example", path: "/healthz", want: 403},
		"another address":          {host: "10.1.2.3", want: 403},
		"no host":                  {host: ":", want: 403},
		"a page of its own":        {headers: map[string]string{"Origin": "http://" + own, "Sec-Fetch-Site": "same-origin"}, want: 200},
		"a page of another port":   {headers: map[string]string{"Origin": "http://127.0.0.1:1"}, want: 403},
		"a page of another site":   {headers: map[string]string{"Origin": "https://attacker.example"}, want: 403},
		"a sandboxed page":         {headers: map[string]string{"Origin": "null"}, want: 403},
		"an image elsewhere":       {headers: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		"a sibling":                {headers: map[string]string{"Sec-Fetch-Site": "same-site"}, want: 403},
		"typed in":                 {headers: map[string]string{"Sec-Fetch-Site": "none"}, want: 200},
		"a wrong token":            {headers: map[string]string{"Authorization": "Bearer x"}, want: 401},
		"a token":                  {headers: map[string]string{"Authorization": "Bearer viewer"}, want: 200},
		"a slow token":             {headers: map[string]string{"Authorization": "Bearer slow-submit"}, want: 200},
		"a password":               {headers: map[string]string{"Authorization": "Basic YTpi"}, want: 401},
		"another method":           {method: http.MethodPost, want: 405},
		"nowhere":                  {path: "/nowhere", want: 404},
		"a probe":                  {path: "/healthz", want: 200},
	} {
		if test.path == "" {
			test.path = "/metrics"
		}
		if test.method == "" {
			test.method = http.MethodGet
		}
		request, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+own+test.path, nil)
		check(t, err)
		request.Host = test.host
		for key, value := range test.headers {
			request.Header.Set(key, value)
		}
		response, err := http.DefaultClient.Do(request)
		check(t, err)
		body, err := io.ReadAll(response.Body)
		check(t, errors.Join(err, response.Body.Close()))
		if response.StatusCode != test.want {
			t.Errorf("%s: status %d, expected %d: %s", name, response.StatusCode, test.want, body)
		}
		if h := response.Header; h.Get("Content-Security-Policy") == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", name, h)
		}
		for _, cookie := range response.Cookies() {
			if cookie.Name == "loose" {
				t.Errorf("%s: the cookie %v goes out", name, cookie)
			}
		}
		if test.want == 200 && test.path == "/metrics" && len(response.Cookies()) != 1 {
			t.Errorf("%s: cookies %v", name, response.Cookies())
		}
	}
}
