package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// heard is a connection that keeps what is asked, and answers nothing.
type heard struct{ asked []proto.Message }

var errHeard = errors.New("heard")

func (h *heard) Invoke(_ context.Context, _ string, request, _ any, _ ...grpc.CallOption) error {
	h.asked = append(h.asked, request.(proto.Message)) //nolint:forcetypeassert // All requests are.
	return errHeard
}

func (h *heard) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errHeard
}

// TestSecretsGoBesideTheJob: what is given is sent as it is, to a new job and to one that is resumed.
func TestSecretsGoBesideTheJob(t *testing.T) {
	conn := &heard{}
	c := client.New(conn)
	defer func() { _ = c.Close() }()
	spec := &enginev1.JobSpec{Sink: &enginev1.Sink{Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{Password: "${secret:pg}"}}}}
	secrets := map[string][]byte{"pg": []byte("x\x00")}
	if _, err := c.Submit(t.Context(), spec, client.WithSecrets(secrets)); err == nil {
		t.Fatal("nobody has answered")
	}
	if _, err := c.Job("a").ResumeWith(t.Context(), secrets); err == nil {
		t.Fatal("nobody has answered")
	}
	for i, got := range []map[string][]byte{conn.asked[0].(*enginev1.SubmitJobRequest).GetSecrets(), conn.asked[1].(*enginev1.ResumeJobRequest).GetSecrets()} {
		if len(got) != 1 || string(got["pg"]) != "x\x00" {
			t.Errorf("request %d has %d secrets", i, len(got))
		}
	}
	if password := conn.asked[0].(*enginev1.SubmitJobRequest).GetSpec().GetSink().GetPostgres().GetPassword(); password != "${secret:pg}" {
		t.Errorf("the spec has %s", password)
	}
}

func TestFindSecrets(t *testing.T) {
	t.Setenv("FIND_SECRETS_TEST", "of the environment")
	file := filepath.Join(t.TempDir(), "s3")
	if err := os.WriteFile(file, []byte("of a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := &enginev1.JobSpec{
		Source: &enginev1.Source{S3: &enginev1.S3Credentials{AccessKeyId: "${secret:id}", SecretAccessKey: "${secret:file:" + file + "}"}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{Password: "${secret:env:FIND_SECRETS_TEST}"}}},
	}
	found, err := client.FindSecrets(spec, map[string][]byte{"id": []byte("given"), "more": nil})
	if err != nil || len(found) != 3 || string(found["id"]) != "given" || string(found["file:"+file]) != "of a file" || string(found["env:FIND_SECRETS_TEST"]) != "of the environment" {
		t.Errorf("%d found, %v", len(found), err)
	}
	_, err = client.FindSecrets(spec, map[string][]byte{"ids": []byte("given")})
	if text := fmt.Sprint(err); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(text, `source.s3.access_key_id: the secret "id" does not come with the job; given are ids`) {
		t.Error(err)
	}
	if _, err := client.FindSecrets(spec, map[string][]byte{"a b": nil}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Error(err)
	}
}
