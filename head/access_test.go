package head_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	"github.com/f708428e/engine/internal/security/audit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a head on loopback that believes in tokens alone.
type server struct {
	t    *testing.T
	head *head.Head
	dir  string
	// address is of gRPC, web of HTTP.
	address, web string
}

func start(t *testing.T, config head.AccessConfig) *server {
	t.Helper()
	return startIn(t, t.TempDir(), config)
}

func startIn(t *testing.T, dir string, config head.AccessConfig) *server {
	t.Helper()
	listen := func() net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		return listener
	}
	listener, web := listen(), listen()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := head.Start(ctx, head.Config{
		DataDir: dir, Listener: listener, WebListener: web, Version: "test", Logger: slog.New(slog.DiscardHandler), Access: config,
	})
	check(t, err)
	s := &server{t: t, head: h, dir: dir, address: listener.Addr().String(), web: web.Addr().String()}
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	if s.head == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(s.t, s.head.Stop(ctx))
	s.head = nil
}

// dial connects with a token, or without if it is empty.
func (s *server) dial(token string) *grpc.ClientConn {
	s.t.Helper()
	var options []grpc.DialOption
	if token != "" {
		credentials, err := rpc.Bearer(func() (string, error) { return token, nil })
		check(s.t, err)
		options = append(options, grpc.WithPerRPCCredentials(credentials))
	}
	conn, err := rpc.Dial(s.address, options...)
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, conn.Close()) })
	return conn
}

// token makes a token by a connection of an admin's.
func token(t *testing.T, admin *grpc.ClientConn, request *enginev1.CreateTokenRequest) string {
	t.Helper()
	made, err := enginev1.NewAccessServiceClient(admin).CreateToken(t.Context(), request)
	check(t, err)
	return made.GetText()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("%v, expected an error of kind %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestEveryMethodHasARule(t *testing.T) {
	s := start(t, head.AccessConfig{})
	methods := 0
	for service, info := range s.head.Services() {
		for _, method := range info.Methods {
			methods++
			if rule, ok := access.RuleFor("/" + service + "/" + method.Name); !ok {
				t.Errorf("there is no rule for /%s/%s", service, method.Name)
			} else if rule.Open && rule.Roles != 0 {
				t.Errorf("the rule for %s is open and has roles", rule.Name)
			}
		}
	}
	if methods < 40 {
		t.Errorf("only %d methods were found", methods)
	}
	// And no rule is for a method that nobody serves.
	for _, rule := range access.Rules() {
		service, method, ok := strings.Cut(strings.TrimPrefix(rule.Name, "/"), "/")
		if !ok || !strings.HasPrefix(rule.Name, "/engine.v1.") {
			continue
		}
		found := false
		for _, m := range s.head.Services()[service].Methods {
			found = found || m.Name == method
		}
		if !found {
			t.Errorf("%s has a rule, and is not served", rule.Name)
		}
	}
}

// describe returns the message that a method takes, and whether it is a stream.
func describe(t *testing.T, service, method string) (request proto.Message, stream bool) {
	t.Helper()
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	check(t, err)
	m := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	return dynamicpb.NewMessage(m.Input()), m.IsStreamingClient() || m.IsStreamingServer()
}

// call makes a call with an empty request, and returns its first error; nil once there is an answer.
func call(ctx context.Context, t *testing.T, conn *grpc.ClientConn, service, method string) error {
	t.Helper()
	request, isStream := describe(t, service, method)
	name := "/" + service + "/" + method
	answer := &rawMessage{}
	if !isStream {
		return conn.Invoke(ctx, name, request, answer, grpc.ForceCodec(rawCodec{}))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, name, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.RecvMsg(answer); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// rawCodec sends messages, and keeps answers as they came.
type rawCodec struct{}

type rawMessage struct{ data []byte }

func (rawCodec) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }

func (rawCodec) Unmarshal(data []byte, v any) error {
	v.(*rawMessage).data = data
	return nil
}

func (rawCodec) Name() string { return "proto" }

// refusedByRule reports whether the table has refused a call, and not the service.
func refusedByRule(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindPermission:
		return strings.Contains(err.Error(), "needs one of")
	case engine.KindUnauthenticated:
		return strings.Contains(err.Error(), "does not say who it is")
	default:
		return false
	}
}

// TestEveryRoleMayDoWhatTheTableSays calls every method with every role, and without one.
func TestEveryRoleMayDoWhatTheTableSays(t *testing.T) {
	dir := t.TempDir()
	s := startIn(t, dir, head.AccessConfig{})
	owner := s.dial("")
	texts := map[string]string{}
	for _, role := range access.AllRoles() {
		texts[role.String()] = token(t, owner, &enginev1.CreateTokenRequest{Name: role.String(), Role: role.String()})
	}
	s.stop()
	// Started again, it believes in nobody but them.
	s = startIn(t, dir, head.AccessConfig{TokensOnly: true, Limits: access.Limits{RefusalsPerSecond: 1e6}})
	conns := map[access.Roles]*grpc.ClientConn{0: s.dial("")}
	for _, role := range access.AllRoles() {
		conns[role] = s.dial(texts[role.String()])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for service, info := range s.head.Services() {
		for _, method := range info.Methods {
			rule, _ := access.RuleFor("/" + service + "/" + method.Name)
			for role, conn := range conns {
				allowed := rule.Open || rule.Roles&role != 0
				err := call(ctx, t, conn, service, method.Name)
				if err != nil && refusedByRule(err) == allowed {
					t.Errorf("%s with the role %s: %v, the table says %v", rule.Name, role, err, allowed)
				}
				if err == nil && !allowed {
					t.Errorf("%s with the role %s is answered, and must not be", rule.Name, role)
				}
			}
		}
	}
	// The web routes.
	for _, rule := range access.Rules() {
		pattern, isRoute := strings.CutPrefix(rule.Name, "GET ")
		if !isRoute {
			continue
		}
		path := strings.ReplaceAll(pattern, "{id...}", "x")
		for role := range conns {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.web+path, nil)
			check(t, err)
			if role != 0 {
				request.Header.Set("Authorization", "Bearer "+texts[role.String()])
			}
			response, err := http.DefaultClient.Do(request)
			check(t, err)
			check(t, response.Body.Close())
			refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
			if allowed := rule.Open || rule.Roles&role != 0; refused == allowed {
				t.Errorf("GET %s with the role %s: status %d, the table says %v", path, role, response.StatusCode, allowed)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTokensEnd(t *testing.T) {
	s := start(t, head.AccessConfig{})
	other := start(t, head.AccessConfig{})
	owner := s.dial("")
	admin := enginev1.NewAccessServiceClient(owner)
	text := token(t, owner, &enginev1.CreateTokenRequest{Name: "a", Role: "viewer", Queues: []string{"q", "team/*"}})
	who := func(s *server, text string) (*enginev1.WhoAmIResponse, error) {
		return enginev1.NewAccessServiceClient(s.dial(text)).WhoAmI(t.Context(), &enginev1.WhoAmIRequest{})
	}
	known, err := who(s, text)
	check(t, err)
	if i := access.FromProto(known.GetIdentity()); i.Name != "a" || i.Method != access.ByToken || i.Roles != access.Viewer || !i.MayUse("q") || !i.MayUse("team/x") || i.MayUse("") || i.Expires.IsZero() {
		t.Errorf("it is %+v", i)
	}
	_, err = admin.CreateToken(t.Context(), &enginev1.CreateTokenRequest{Name: "a", Role: "viewer"})
	wantKind(t, err, engine.KindConflict, "has this name")
	for name, request := range map[string]*enginev1.CreateTokenRequest{
		"no name": {Role: "viewer"}, "bad role": {Name: "b", Role: "king"}, "bad queue": {Name: "b", Role: "viewer", Queues: []string{"a b"}},
		"bad life": {Name: "b", Role: "viewer", Ttl: "-3h"}, "a star within": {Name: "b", Role: "viewer", Queues: []string{"a*b"}},
	} {
		if _, err := admin.CreateToken(t.Context(), request); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same text is nothing at another cluster, and says so.
	_, err = who(other, text)
	wantKind(t, err, engine.KindUnauthenticated, "another cluster")
	_, err = who(s, text[:len(text)-3]+"aaa")
	wantKind(t, err, engine.KindUnauthenticated, "mistyped")
	_, err = who(s, text[:20])
	wantKind(t, err, engine.KindUnauthenticated, "mistyped", "length")
	_, err = who(s, "secret")
	wantKind(t, err, engine.KindUnauthenticated, "begins with engt_")
	short := token(t, owner, &enginev1.CreateTokenRequest{Name: "short", Role: "viewer", Ttl: "1ms"})
	for err = nil; err == nil && t.Context().Err() == nil; {
		_, err = who(s, short)
	}
	wantKind(t, err, engine.KindUnauthenticated, "short has expired at", "head's clock")
	revoked, err := admin.RevokeToken(t.Context(), &enginev1.RevokeTokenRequest{Token: "a"})
	check(t, err)
	if revoked.GetToken().GetRevokeTime() == nil {
		t.Errorf("revoked %v", revoked)
	}
	_, err = who(s, text)
	wantKind(t, err, engine.KindUnauthenticated, "token a was revoked at")
	_, err = admin.RevokeToken(t.Context(), &enginev1.RevokeTokenRequest{Token: "a"})
	wantKind(t, err, engine.KindNotFound)
	// The name is free again. What is known outlives the head.
	again := token(t, owner, &enginev1.CreateTokenRequest{Name: "a", Role: "admin", Ttl: "never", Queues: []string{"q"}})
	s.stop()
	s = startIn(t, s.dir, head.AccessConfig{TokensOnly: true})
	known, err = who(s, again)
	check(t, err)
	if q := known.GetIdentity().GetQueues(); len(q) != 1 || q[0] != "*" {
		t.Errorf("an admin is granted %q", q)
	}
	_, err = who(s, text)
	wantKind(t, err, engine.KindUnauthenticated, "revoked")
	listed, err := enginev1.NewAccessServiceClient(s.dial(again)).ListTokens(t.Context(), &enginev1.ListTokensRequest{})
	check(t, err)
	if n := len(listed.GetTokens()); n != 3 {
		t.Errorf("%d tokens are listed", n)
	}
	_, err = who(s, "")
	wantKind(t, err, engine.KindUnauthenticated, "does not say who it is", "ENGINE_TOKEN")
	s.stop()
	// Nothing of what was written has a token's text, nor the secret in it.
	for _, text := range []string{text, short, again} {
		secret := strings.TrimPrefix(text, access.Prefix)[20:60]
		check(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(content), secret) {
				t.Errorf("%s has a token's secret", path)
			}
			return err
		}))
	}
}

func TestAuditOfAHead(t *testing.T) {
	s := start(t, head.AccessConfig{})
	owner := s.dial("")
	viewer := enginev1.NewJobServiceClient(s.dial(token(t, owner, &enginev1.CreateTokenRequest{Name: "eve", Role: "viewer", Queues: []string{"q"}})))
	_, err := viewer.StopJob(t.Context(), &enginev1.StopJobRequest{JobId: "j1"})
	wantKind(t, err, engine.KindPermission, "eve", "viewer", "submit")
	_, err = viewer.ListJobs(t.Context(), &enginev1.ListJobsRequest{})
	check(t, err)
	s.stop()
	var lines []string
	report, err := audit.Verify(t.Context(), filepath.Join(s.dir, "audit"), nil, func(e audit.Entry) error {
		lines = append(lines, fmt.Sprintf("%s %s %s %v", e.Who, e.Call, e.Target, e.Allowed))
		return nil
	})
	check(t, err)
	if report.Lines == 0 || report.First != 1 {
		t.Errorf("%+v", report)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"/engine.v1.AccessService/CreateToken name eve role viewer true", "eve /engine.v1.JobService/StopJob  false"} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit log lacks %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "ListJobs") {
		t.Errorf("reading is in the audit log:\n%s", all)
	}
}

// TestQueuesOfJobs has jobs of one queue be seen by those alone who are granted it.
func TestQueuesOfJobs(t *testing.T) {
	s := start(t, head.AccessConfig{})
	owner := s.dial("")
	client := func(name string, queues ...string) enginev1.JobServiceClient {
		return enginev1.NewJobServiceClient(s.dial(token(t, owner, &enginev1.CreateTokenRequest{Name: name, Role: "operate", Queues: queues})))
	}
	a, b, both := client("a", "a"), client("b", "b"), client("both", "a", "b")
	spec := func(queue string) *enginev1.JobSpec {
		return &enginev1.JobSpec{
			Queue:  queue,
			Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{filepath.Join(t.TempDir(), "none.csv")}}}},
			Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(t.TempDir(), "out")}}},
		}
	}
	ctx := t.Context()
	made, err := a.SubmitJob(ctx, &enginev1.SubmitJobRequest{Spec: spec("a"), SubmissionId: "by-a"})
	check(t, err)
	id := made.GetJob().GetJobId()
	for _, queue := range []string{"b", ""} {
		_, err = a.SubmitJob(ctx, &enginev1.SubmitJobRequest{Spec: spec(queue)})
		wantKind(t, err, engine.KindPermission, "not granted to a")
	}
	for name, attack := range map[string]func(c enginev1.JobServiceClient, id string) error{
		"get": func(c enginev1.JobServiceClient, id string) error {
			_, err := c.GetJob(ctx, &enginev1.GetJobRequest{JobId: id})
			return err
		},
		"stop": func(c enginev1.JobServiceClient, id string) error {
			_, err := c.StopJob(ctx, &enginev1.StopJobRequest{JobId: id})
			return err
		},
		"resume": func(c enginev1.JobServiceClient, id string) error {
			_, err := c.ResumeJob(ctx, &enginev1.ResumeJobRequest{JobId: id})
			return err
		},
		"forget": func(c enginev1.JobServiceClient, id string) error {
			_, err := c.ForgetJob(ctx, &enginev1.ForgetJobRequest{JobId: id})
			return err
		},
		"watch": func(c enginev1.JobServiceClient, id string) error {
			stream, err := c.WatchJob(ctx, &enginev1.WatchJobRequest{JobId: id})
			check(t, err)
			_, err = stream.Recv()
			return err
		},
		"log": func(c enginev1.JobServiceClient, id string) error {
			stream, err := c.ReadJobLog(ctx, &enginev1.ReadJobLogRequest{JobId: id})
			check(t, err)
			_, err = stream.Recv()
			return err
		},
	} {
		// Who is not granted the queue hears the same of a job that there is as of one that there is not.
		for _, known := range []string{id, "by-a"} {
			const unknown = "no-job"
			there, none := attack(b, known), attack(b, unknown)
			wantKind(t, there, engine.KindNotFound, "no such job")
			var heard, expected *engine.Error
			if !errors.As(there, &heard) || !errors.As(none, &expected) || strings.ReplaceAll(there.Error(), known, unknown) != none.Error() || heard.Hint != expected.Hint || heard.Kind != expected.Kind {
				t.Errorf("%s: %v, and of one that there is not %v", name, there, none)
			}
		}
	}
	for _, test := range []struct {
		client enginev1.JobServiceClient
		want   int
	}{{a, 1}, {b, 0}, {both, 1}} {
		listed, err := test.client.ListJobs(ctx, &enginev1.ListJobsRequest{})
		check(t, err)
		if n := len(listed.GetJobs()); n != test.want {
			t.Errorf("%d jobs are listed, expected %d", n, test.want)
		}
	}
	if _, err := both.GetJob(ctx, &enginev1.GetJobRequest{JobId: id}); err != nil {
		t.Error(err)
	}
	// Whoever runs the cluster is told what was tried.
	s.stop()
	tried := map[string]string{}
	_, err = audit.Verify(ctx, filepath.Join(s.dir, "audit"), nil, func(e audit.Entry) error {
		if e.Who == "b" && !e.Allowed && strings.Contains(e.Target, id) {
			tried[e.Call] = e.Reason
		}
		return nil
	})
	check(t, err)
	for _, call := range []string{"GetJob", "StopJob", "ResumeJob", "ForgetJob", "WatchJob", "ReadJobLog"} {
		if reason := tried["/engine.v1.JobService/"+call]; !strings.Contains(reason, "queue that b (token) is not granted") {
			t.Errorf("%s: the audit log says %q", call, reason)
		}
	}
}
