package s3_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

// each runs every call on a bucket and hands its error over.
func each(t *testing.T, b *s3.Bucket, check func(t *testing.T, err error)) {
	t.Helper()
	for name, call := range map[string]func() error{
		"put":        func() error { return put(t.Context(), b, "a", []byte("a"), blob.PutOptions{IfAbsent: true}) },
		"put parts":  func() error { return put(t.Context(), b, "a", blobtest.Bytes(1, large), blob.PutOptions{}) },
		"stream":     func() error { return stream(t.Context(), b, "a", blobtest.Bytes(1, large), blob.PutOptions{}) },
		"get":        func() error { _, _, err := b.Get(t.Context(), "a", 0, -1); return err },
		"get range":  func() error { _, _, err := b.Get(t.Context(), "a", 5, 5); return err },
		"get at end": func() error { _, _, err := b.Get(t.Context(), "a", 0, 0); return err },
		"stat":       func() error { _, err := b.Stat(t.Context(), "a"); return err },
		"delete":     func() error { return b.Delete(t.Context(), "a") },
		"list": func() error {
			for _, err := range b.List(t.Context(), "") {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := call()
			if err != nil && strings.Contains(err.Error(), s3test.SecretKey) {
				t.Fatalf("the error %q has the secret", err)
			}
			check(t, err)
		})
	}
}

func wantEach(t *testing.T, b *s3.Bucket, kind engine.Kind, words ...string) {
	t.Helper()
	each(t, b, func(t *testing.T, err error) {
		t.Helper()
		blobtest.WantKind(t, err, kind, words...)
	})
}

func TestBucketMissing(t *testing.T) {
	server := s3test.Start(t)
	wantEach(t, open(t, "s3://no-such-bucket", server.Options()), engine.KindNotFound, "the bucket no-such-bucket does not exist", "NoSuchBucket")
}

func TestWrongCredentials(t *testing.T) {
	server := s3test.Start(t)
	bucket := "s3://" + server.Bucket(t)
	options := server.Options()
	t.Run("secret", func(t *testing.T) {
		wrong := *options.Credentials
		wrong.SecretAccessKey = "wrong-" + s3test.SecretKey
		options.Credentials = &wrong
		wantEach(t, open(t, bucket, options), engine.KindUnauthenticated, "not accepted", "SignatureDoesNotMatch", bucket)
		if s := fmt.Sprintf("%v %+v %#v %s", options, &wrong, wrong, wrong); strings.Contains(s, s3test.SecretKey) {
			t.Errorf("options print as %s", s)
		}
	})
	t.Run("key", func(t *testing.T) {
		options.Credentials = &s3.Credentials{AccessKeyID: "nobody", SecretAccessKey: s3test.SecretKey}
		wantEach(t, open(t, bucket, options), engine.KindUnauthenticated, "not accepted")
	})
}

// TestNamedErrors has the proxy answer what versitygw cannot be brought to.
func TestNamedErrors(t *testing.T) {
	w := newWorld(t, func(o *s3.Options) { o.Attempts = 2 })
	for _, c := range []struct {
		fault s3test.Fault
		kind  engine.Kind
		words []string
	}{
		{s3test.Fault{Status: 403, Code: "AccessDenied"}, engine.KindPermission, []string{"forbidden in the bucket " + w.bucket, "403 AccessDenied"}},
		{s3test.Fault{Status: 400, Code: "ExpiredToken"}, engine.KindUnauthenticated, []string{"have expired", "ExpiredToken"}},
		{s3test.Fault{Status: 403, Code: "InvalidToken"}, engine.KindUnauthenticated, []string{"not accepted", "InvalidToken"}},
		{
			s3test.Fault{Status: 301, Code: "PermanentRedirect", Header: http.Header{"X-Amz-Bucket-Region": {"eu-central-1"}}},
			engine.KindInvalidArgument, []string{"is in the region eu-central-1, not us-east-1", "?region=eu-central-1"},
		},
		{
			s3test.Fault{Status: 400, Code: "AuthorizationHeaderMalformed", Header: http.Header{"X-Amz-Bucket-Region": {"eu-central-1"}}},
			engine.KindInvalidArgument, []string{"is in the region eu-central-1, not us-east-1"},
		},
		{s3test.Fault{Status: 403, Code: "QuotaExceeded"}, engine.KindExhausted, []string{"no space left"}},
		{s3test.Fault{Status: 507, Code: "XMinioStorageFull"}, engine.KindExhausted, []string{"no space left"}},
		{s3test.Fault{Status: 501, Code: "NotImplemented"}, engine.KindInvalidArgument, []string{"501", "NotImplemented"}},
		{s3test.Fault{Status: 503, Code: "SlowDown"}, engine.KindUnavailable, []string{"503"}},
		{s3test.Fault{Refuse: true}, engine.KindUnavailable, []string{"cannot be reached", w.proxy.Endpoint}},
	} {
		name := c.fault.Code
		t.Run(name, func(t *testing.T) {
			c.fault.Times = -1
			w.proxy.Fail(c.fault)
			wantEach(t, w.b, c.kind, append(c.words, "s3://"+w.bucket)...)
			w.proxy.Reset()
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	_ = l.Close()
	options := s3.Options{Endpoint: endpoint, Attempts: 2, RetryDelay: 1, Credentials: &s3.Credentials{AccessKeyID: "a", SecretAccessKey: s3test.SecretKey}}
	wantEach(t, open(t, "s3://some-bucket", options), engine.KindUnavailable, endpoint+" cannot be reached", "connection refused")
	options.Endpoint, options.Attempts = "http://no-such-host.invalid:1", 1000
	b := open(t, "s3://some-bucket", options)
	_, err = b.Stat(t.Context(), "a")
	blobtest.WantKind(t, err, engine.KindUnavailable, "cannot be reached", "no-such-host.invalid")
}

// alone takes the machine's own AWS configuration out of the environment.
func alone(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
		"AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_REQUEST_CHECKSUM_CALCULATION",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestNoCredentials(t *testing.T) {
	alone(t)
	wantEach(t, open(t, "s3://some-bucket?region=eu-west-1&attempts=1000", s3.Options{}), engine.KindUnauthenticated, "no credentials", "AWS_ACCESS_KEY_ID")
}

func TestNoRegion(t *testing.T) {
	alone(t)
	_, err := s3.Open(t.Context(), "s3://some-bucket", s3.Options{})
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "no region", "AWS_REGION", "s3://some-bucket")
	_, err = s3.Open(t.Context(), "s3://some-bucket?profile=nobody", s3.Options{})
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "nobody")
}
