package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/internal/s3test"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestDoctor(t *testing.T) {
	// The program that doctor starts again to read its memory is this one.
	t.Setenv("ENGINE_TEST_IS_ENGINE", "1")
	c := newConsole(t, nil)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	library := filepath.Join(t.TempDir(), "none.so")
	c.app.now = time.Now
	c.run(t, exitFailed, "doctor", "--data-dir", dir, "--onnxruntime", library, "--s3", "mem://doctor-test/x", "-o", "json")
	var v doctorView
	if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	found := map[string]check{}
	for _, check := range v.Checks {
		found[check.Name] = check
		if check.Found == "" || check.Status == checkFail && check.Hint == "" || check.Status == checkOK && check.Hint != "" {
			t.Errorf("%+v", check)
		}
	}
	if v.OK || found["onnx runtime"].Status != checkFail || !strings.Contains(found["onnx runtime"].Found, library) {
		t.Errorf("got %+v", found["onnx runtime"])
	}
	for _, name := range []string{"memory", "file descriptors", "data folder", "s3"} {
		if found[name].Status != checkOK {
			t.Errorf("got %+v", found[name])
		}
	}
	if runtime.GOOS == "linux" && found["shared memory"].Status != checkOK {
		t.Errorf("got %+v", found["shared memory"])
	}
	for _, name := range []string{"gpu", "client puts", "clock", "port 10001 (gRPC)", "port 8265 (web)", "port 10002 (Flight)"} {
		if found[name].Status == "" {
			t.Errorf("no check of %s", name)
		}
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(dir))); err == nil {
		t.Error("doctor made folders")
	}
	left, err := memory.Shared("doctor-test").Stat(t.Context(), "x")
	if err == nil {
		t.Errorf("doctor left %v", left)
	}
	c.run(t, exitFailed, "doctor", "--data-dir", dir, "--onnxruntime", library)
	if text := c.stdout.String(); !strings.Contains(text, "│ onnx runtime        │ FAIL   │ ") || !strings.Contains(text, "\nWhat to do:\nonnx runtime:") {
		t.Errorf("%s", text)
	}
	c.wantErr(t, "")
}

// forgetful is a bucket that knows no conditions; mangling one that returns other bytes.
type forgetful struct{ blob.Bucket }

func (b forgetful) Put(ctx context.Context, key string, body io.ReaderAt, size int64, _ blob.PutOptions) (blob.Info, error) {
	return b.Bucket.Put(ctx, key, body, size, blob.PutOptions{})
}

type mangling struct{ blob.Bucket }

func (b mangling) Get(_ context.Context, key string, _, _ int64) (io.ReadCloser, blob.Info, error) {
	return io.NopCloser(strings.NewReader("other bytes")), blob.Info{Key: key}, nil
}

func TestTryBucket(t *testing.T) {
	good := memory.Shared("doctor-try")
	if err := tryBucket(t.Context(), good); err != nil {
		t.Error(err)
	}
	if err := tryBucket(t.Context(), forgetful{good}); engine.KindOf(err) != engine.KindVersion || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("got %v", err)
	}
	if err := tryBucket(t.Context(), mangling{good}); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("got %v", err)
	}
	for info, err := range good.List(t.Context(), "") {
		t.Errorf("left behind: %v, %v", info, err)
	}
	if c := checkBucket(t.Context(), "ftp://x"); c.Status != checkFail || !strings.Contains(c.Found, "ftp://x") || c.Hint == "" {
		t.Errorf("got %+v", c)
	}
}

func TestCheckPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	name := "port " + strconv.Itoa(port)
	c := newConsole(t, nil)
	if got := c.app.checkPort(t.Context(), "gRPC", "--port", port); got.Status != checkWarn || got.Name != name+" (gRPC)" || !strings.Contains(got.Hint, "--port") {
		t.Errorf("got %+v", got)
	}
	if got := c.app.checkPort(t.Context(), "Flight", "--flight-port", port); got.Status != checkOK {
		t.Errorf("got %+v", got)
	}
	c = newConsole(t, &fakeHead{cluster: &enginev1.GetClusterResponse{ClusterId: testCluster}})
	c.app.address = "127.0.0.1:1"
	if got := c.app.checkPort(t.Context(), "web", "--web-port", port); got.Status != checkOK || !strings.Contains(got.Found, testCluster) {
		t.Errorf("got %+v", got)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.app.checkPort(t.Context(), "web", "--web-port", port); got.Status != checkOK || got.Found != "free" {
		t.Errorf("got %+v", got)
	}
}

func TestCheckFolder(t *testing.T) {
	dir := t.TempDir()
	if got := checkFolder(dir); got.Status == checkFail || !strings.Contains(got.Found, " free of ") {
		t.Errorf("got %+v", got)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if got := checkFolder(path); got.Status != checkFail || !strings.Contains(got.Found, file) || got.Hint == "" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestCheckClock(t *testing.T) {
	c := newConsole(t, nil)
	c.app.now = func() time.Time { return time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC) }
	if got := c.app.checkClock(); got.Status != checkFail || !strings.HasPrefix(got.Found, "1970-01-01T00:01:00Z is before this program was installed, ") {
		t.Errorf("got %+v", got)
	}
	c.app.now = time.Now
	if got := c.app.checkClock(); got.Status == checkFail {
		t.Errorf("got %+v", got)
	}
}

func TestWrap(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "aa bb cc": "aa bb\ncc", "aaaaaaaa b": "aaaaaaaa\nb", "ää öö ü": "ää öö\nü"} {
		if got := wrap(in, 5); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDoctorS3(t *testing.T) {
	server := s3test.Start(t)
	options := server.Options()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": options.Endpoint, "AWS_REGION": options.Region, "AWS_ACCESS_KEY_ID": options.Credentials.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": options.Credentials.SecretAccessKey, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	bucket := server.Bucket(t)
	if got := checkBucket(t.Context(), "s3://"+bucket+"/prefix"); got.Status != checkOK || !strings.Contains(got.Found, "s3://"+bucket+"/prefix: put if absent, get, and delete work") {
		t.Errorf("got %+v", got)
	}
	if got := checkBucket(t.Context(), "s3://no-such-bucket/prefix"); got.Status != checkFail || !strings.Contains(got.Found, "no-such-bucket") || !strings.Contains(got.Found, "NoSuchBucket") || got.Hint == "" {
		t.Errorf("got %+v", got)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	got := checkBucket(t.Context(), "s3://"+bucket)
	if got.Status != checkFail || !strings.Contains(got.Found, bucket) || !strings.Contains(got.Found, "SignatureDoesNotMatch") {
		t.Errorf("got %+v", got)
	}
	if text := got.Found + got.Hint; strings.Contains(text, s3test.SecretKey) {
		t.Errorf("the secret is told: %s", text)
	}
}
