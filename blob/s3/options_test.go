package s3_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

func TestParseURI(t *testing.T) {
	bucket, prefix, o, err := s3.ParseURI("s3://some.bucket-1/a/b c/%20/?region=eu-west-1&endpoint=http://127.0.0.1:9000&profile=p&addressing=virtual"+
		"&checksums=when_required&sse=aws:kms&kms_key_id=arn:aws:kms:x&part_bytes=8388608&concurrency=2&attempts=3&retry_delay=1s&call_timeout=1m", s3.Options{Region: "other"})
	if err != nil {
		t.Fatal(err)
	}
	o.Allow = nil
	want := s3.Options{
		Region: "eu-west-1", Endpoint: "http://127.0.0.1:9000", Profile: "p", Addressing: s3.AddressingVirtual, Checksums: s3.ChecksumsWhenRequired,
		Encryption: s3.EncryptionKMS, KMSKeyID: "arn:aws:kms:x", PartBytes: 8 << 20, Concurrency: 2, Attempts: 3, RetryDelay: 1e9, Timeout: 60e9,
	}
	if bucket != "some.bucket-1" || prefix != "a/b c/%20" || o.Region != want.Region || o.Endpoint != want.Endpoint || o.Profile != want.Profile ||
		o.Addressing != want.Addressing || o.Checksums != want.Checksums || o.Encryption != want.Encryption || o.KMSKeyID != want.KMSKeyID ||
		o.PartBytes != want.PartBytes || o.Concurrency != want.Concurrency || o.Attempts != want.Attempts || o.RetryDelay != want.RetryDelay || o.Timeout != want.Timeout {
		t.Fatalf("got %q, %q, %+v", bucket, prefix, o)
	}
	for uri, word := range map[string]string{
		"s3:/bucket": "s3://", "s3://": "no bucket", "s3:///a": "no bucket", "s3://a b": "no name of a bucket", "s3://..": "no name of a bucket",
		"s3://b/../c": `".."`, "s3://b/a//c": "empty name", "s3://b?colour=red": "known are addressing", "s3://b?region=a&region=b": "2 times",
		"s3://b?addressing=other": "path, virtual", "s3://b?checksums=md5": "when_required", "s3://b?sse=rot13": "AES256", "s3://b?kms_key_id=k": "needs sse",
		"s3://b?part_bytes=5": "at least", "s3://b?part_bytes=x": "part_bytes", "s3://b?concurrency=-1": "negative", "s3://b?anonymous=perhaps": "anonymous",
		"s3://b?endpoint=127.0.0.1:80": "https://host:port", "s3://b?endpoint=ftp://x": "https://host:port", "s3://b?%zz": "cannot be read",
		"s3://b?endpoint=http://user:hunter2@host": "without user, password",
	} {
		_, _, _, err := s3.ParseURI(uri, s3.Options{})
		blobtest.WantKind(t, err, engine.KindInvalidArgument, word)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error %q has the password", err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, uri := range []string{"s3://bucket/prefix?region=a", "s3://b", "s3://b/ü/?sse=AES256", "s3://b?endpoint=http://x&attempts=1", "mem://a", "?", "s3://b/%2e%2e"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		bucket, prefix, _, err := s3.ParseURI(uri, s3.Options{})
		if err != nil {
			if engine.KindOf(err) != engine.KindInvalidArgument {
				t.Fatalf("%q: %v", uri, err)
			}
			return
		}
		address := "s3://" + bucket
		if prefix != "" {
			address += "/" + prefix
		}
		again, samePrefix, _, err := s3.ParseURI(address, s3.Options{})
		if err != nil || again != bucket || samePrefix != prefix {
			t.Fatalf("%q is %q, which is %q and %q: %v", uri, address, again, samePrefix, err)
		}
	})
}

func TestAllow(t *testing.T) {
	alone(t)
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	var asked [2]string
	refused := errors.New("not on the list")
	_, err := s3.Open(t.Context(), "s3://some-bucket", s3.Options{Allow: func(endpoint, bucket string) error {
		asked = [2]string{endpoint, bucket}
		return engine.Errorf(engine.KindPermission, "", "", "%w", refused)
	}})
	blobtest.WantKind(t, err, engine.KindPermission, "s3://some-bucket", "not on the list")
	if asked != [2]string{"http://127.0.0.1:1", "some-bucket"} {
		t.Errorf("asked for %q", asked)
	}
}

// TestEnvironment opens a bucket as other AWS tools do: all comes from the environment, or from a profile.
func TestEnvironment(t *testing.T) {
	server := s3test.Start(t)
	bucket, c := server.Bucket(t), server.Options().Credentials
	t.Run("variables", func(t *testing.T) {
		alone(t)
		t.Setenv("AWS_ENDPOINT_URL", server.Endpoint)
		t.Setenv("AWS_ACCESS_KEY_ID", c.AccessKeyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", c.SecretAccessKey)
		b := open(t, "s3://"+bucket, s3.Options{})
		blobtest.Put(t, b, "a", []byte("a"))
		blobtest.Want(t, b, "a", []byte("a"))
	})
	t.Run("profile", func(t *testing.T) {
		alone(t)
		folder := t.TempDir()
		write := func(name, text string) string {
			path := filepath.Join(folder, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		t.Setenv("AWS_CONFIG_FILE", write("config", "[profile lab]\nregion = us-east-1\nendpoint_url = "+server.Endpoint+"\nrequest_checksum_calculation = when_required\n"))
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write("credentials", "[lab]\naws_access_key_id = "+c.AccessKeyID+"\naws_secret_access_key = "+c.SecretAccessKey+"\n"))
		b := open(t, "s3://"+bucket+"?profile=lab", s3.Options{})
		blobtest.Put(t, b, "b", []byte("b"))
		blobtest.Want(t, b, "b", []byte("b"))
	})
}

func TestAnonymous(t *testing.T) {
	w := newWorld(t, func(o *s3.Options) { o.Credentials, o.Anonymous = nil, true })
	_, err := w.b.Stat(t.Context(), "a")
	blobtest.WantKind(t, err, engine.KindPermission, "forbidden")
	for _, r := range w.proxy.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Error("a request is signed")
		}
	}
}

// TestHeaders looks at what is sent.
func TestHeaders(t *testing.T) {
	const unsigned = "UNSIGNED-PAYLOAD"
	data := blobtest.Bytes(1, 1000)
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
	for _, c := range []struct {
		name, query string
		absent      bool
		want        map[string]string
	}{
		{"plain", "", false, map[string]string{"X-Amz-Checksum-Crc32c": sum, "X-Amz-Content-Sha256": unsigned, "If-None-Match": "", "X-Amz-Server-Side-Encryption": ""}},
		{"absent", "", true, map[string]string{"X-Amz-Checksum-Crc32c": sum, "If-None-Match": "*"}},
		{"no checksums", "?checksums=when_required", false, map[string]string{"X-Amz-Checksum-Crc32c": "", "X-Amz-Sdk-Checksum-Algorithm": ""}},
		{"sse-s3", "?sse=AES256", false, map[string]string{"X-Amz-Server-Side-Encryption": "AES256"}},
		{"sse-kms", "?sse=aws:kms&kms_key_id=k", false, map[string]string{"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "k"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			options := w.server.Options()
			options.Endpoint, options.Attempts = w.proxy.Endpoint, 1
			b := open(t, "s3://"+w.bucket+c.query, options)
			for _, size := range []int{1000, large} {
				w.proxy.Reset()
				// What the server makes of keys that it does not have is its own.
				_ = put(t.Context(), b, "a", append(data, make([]byte, size-1000)...), blob.PutOptions{IfAbsent: c.absent})
				first := w.proxy.Requests()[0]
				for name, want := range c.want {
					if size != 1000 && !strings.Contains(name, "Encryption") {
						continue
					}
					if got := first.Header.Get(name); got != want {
						t.Errorf("%s %s: %s is %q, want %q", first.Method, first.Path, name, got, want)
					}
				}
			}
		})
	}
}

// TestSignedWithoutChecksum: over plain HTTP a body that carries no checksum is part of the signature.
func TestSignedWithoutChecksum(t *testing.T) {
	w := newWorld(t, func(o *s3.Options) { o.Checksums = s3.ChecksumsWhenRequired })
	blobtest.Put(t, w.b, "a", []byte("a"))
	if got := w.proxy.Requests()[0].Header.Get("X-Amz-Content-Sha256"); len(got) != 64 {
		t.Errorf("the hash of the body is %q", got)
	}
}

func TestAddressing(t *testing.T) {
	w := newWorld(t, nil)
	options := w.server.Options()
	options.Endpoint = strings.Replace(w.proxy.Endpoint, "127.0.0.1", "localhost", 1)
	for addressing, want := range map[s3.Addressing]string{s3.AddressingAuto: "/" + w.bucket + "/a", s3.AddressingPath: "/" + w.bucket + "/a", s3.AddressingVirtual: "/a"} {
		w.proxy.Reset()
		w.proxy.Fail(s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Times: -1})
		options.Addressing, options.Attempts = addressing, 1
		_, err := open(t, "s3://"+w.bucket, options).Stat(t.Context(), "a")
		// Not every machine knows names below localhost; then the name that was looked up tells.
		if addressing == s3.AddressingVirtual && strings.Contains(err.Error(), "lookup "+w.bucket+".localhost") {
			continue
		}
		if r := w.proxy.Requests(); len(r) == 0 || r[0].Path != want {
			t.Errorf("addressing %q: got %+v, want the path %q; %v", addressing, r, want, err)
		}
	}
}
