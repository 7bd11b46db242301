package rpc

import (
	"context"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/f708428e/engine"
)

const opReadToken = "read token"

// tokenFile is a file with a token. It is safe for concurrent use.
type tokenFile struct {
	path string

	mu      sync.Mutex
	text    string
	changed time.Time
}

// maxTokenFileBytes bounds what is read of a token's file.
const maxTokenFileBytes = 64 << 10

func (f *tokenFile) read() (string, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return "", engine.Errorf(engine.KindInvalidArgument, opReadToken, f.path, "%w", err)
	}
	f.mu.Lock()
	text, changed := f.text, f.changed
	f.mu.Unlock()
	if text != "" && info.ModTime().Equal(changed) {
		return text, nil
	}
	switch {
	case info.Mode().Perm()&0o077 != 0 && info.Mode().IsRegular() && os.PathSeparator == '/':
		return "", engine.Errorf(engine.KindPermission, opReadToken, f.path, "others than its owner may read the file (mode %04o)", info.Mode().Perm()).
			WithHint("chmod 600 %s", f.path)
	case info.Size() > maxTokenFileBytes:
		return "", engine.Errorf(engine.KindInvalidArgument, opReadToken, f.path, "it has %d bytes, which no token has", info.Size())
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return "", engine.Errorf(engine.KindInvalidArgument, opReadToken, f.path, "%w", err)
	}
	if text = strings.TrimSpace(string(content)); text == "" {
		return "", engine.Errorf(engine.KindInvalidArgument, opReadToken, f.path, "the file is empty")
	}
	f.mu.Lock()
	f.text, f.changed = text, info.ModTime()
	f.mu.Unlock()
	return text, nil
}

// TokenFile returns a function that reads a token from a file, again when the file has changed. Nobody but its owner may read the file.
func TokenFile(path string) func() (string, error) { return (&tokenFile{path: path}).read }

// Bearer shows the token that a function returns, with each call, to a peer over TLS or loopback; to another one the calls fail. The function
// must be safe for concurrent use. The error is the function's first one.
func Bearer(token func() (string, error)) (credentials.PerRPCCredentials, error) {
	b := bearer{token}
	_, err := b.read()
	return b, err
}

type bearer struct{ token func() (string, error) }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	info, _ := credentials.RequestInfoFromContext(ctx)
	if err := credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity); err != nil && !isLoopback(uri) {
		return nil, ToStatus(engine.Errorf(engine.KindUnauthenticated, "connect", strings.Join(uri, " "), "the token would travel in clear text").
			WithHint("use TLS, or connect to loopback"))
	}
	token, err := b.read()
	if err != nil {
		// Of the other kinds gRPC makes an internal error.
		return nil, ToStatus(engine.Errorf(engine.KindUnauthenticated, opReadToken, "", "%w", err))
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) read() (string, error) {
	token, err := b.token()
	if err == nil && strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		err = engine.Errorf(engine.KindInvalidArgument, opReadToken, "", "the token has a character that no token has").WithHint("copy it as a whole, without anything else")
	}
	return token, err
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: GetRequestMetadata looks, since loopback needs none.
func (bearer) RequireTransportSecurity() bool { return false }

// isLoopback reports whether the address of a call is one of this machine, by its name or number alone.
func isLoopback(uri []string) bool {
	if len(uri) == 0 {
		return false
	}
	parsed, err := url.Parse(uri[0])
	if err != nil {
		return false
	}
	host := parsed.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
