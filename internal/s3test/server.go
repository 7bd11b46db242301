// Package s3test gives tests a real S3 server (versitygw on a folder) and a proxy in front of it that fails as they wish.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/testenv"
)

// Region is the region that the server says it is in.
const Region = "us-east-1"

// The credentials of the server's only user.
const (
	accessKey = "engine-test"
	// SecretKey is exported so that a test can look for it in messages.
	SecretKey = "engine-test-secret"
)

const startTimeout = 30 * time.Second

// Server is a running S3 server. It is safe for concurrent use.
type Server struct {
	// Endpoint is its URL.
	Endpoint string
	// Folder holds a folder for each bucket, with the objects as files.
	Folder string
	client *sdk.Client
	made   atomic.Int64
}

// Start starts a server on a free port of this machine. It ends with the test. A server that is not installed skips the test, or fails
// it in CI.
func Start(t testing.TB) *Server {
	t.Helper()
	program := testenv.Tool(t, "versitygw", "ENGINE_VERSITYGW")
	s := &Server{Folder: t.TempDir()}
	// The port is free now and may be taken a moment later by somebody else.
	for try := range 5 {
		address := freeAddress(t)
		s.Endpoint = "http://" + address
		err := s.run(t, program, address)
		if err == nil {
			break
		}
		if try == 4 {
			t.Fatalf("start %s: %v", program, err)
		}
	}
	s.client = sdk.New(sdk.Options{
		BaseEndpoint: &s.Endpoint, Region: Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, SecretKey, ""),
	})
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// run starts the program and returns when it answers, or has ended.
func (s *Server) run(t testing.TB, program, address string) error {
	const health = "/engine-test-health"
	command := exec.Command(program, "--port", address, "--access", accessKey, "--secret", SecretKey, "--region", Region,
		"--health", health, "--quiet", "posix", s.Folder)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Folder}
	command.Dir = s.Folder
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	exited, err := start(command)
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		<-exited
	})
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		response, err := client.Get(s.Endpoint + health)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("health: %s", response.Status)
		}
		select {
		case <-exited:
			return fmt.Errorf("it ended: %s", strings.TrimSpace(output.String()))
		case <-deadline.C:
			return fmt.Errorf("it does not answer: %w", err)
		case <-again.C:
		}
	}
}

// Bucket makes an empty bucket and returns its name.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", s.made.Add(1))
	if _, err := s.client.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return name
}

// Options let a client in: endpoint, region and credentials, small parts and quick retries.
func (s *Server) Options() s3.Options {
	return s3.Options{
		Endpoint: s.Endpoint, Region: Region,
		Credentials: &s3.Credentials{AccessKeyID: accessKey, SecretAccessKey: SecretKey},
		PartBytes:   5 << 20, RetryDelay: time.Millisecond,
	}
}

// Uploads returns the keys of the multipart uploads in a bucket that have not ended.
func (s *Server) Uploads(t testing.TB, bucket string) (keys []string) {
	t.Helper()
	out, err := s.client.ListMultipartUploads(context.WithoutCancel(t.Context()), &sdk.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys
}

// Path is the file that holds an object.
func (s *Server) Path(bucket, key string) string {
	return filepath.Join(s.Folder, bucket, filepath.FromSlash(key))
}
