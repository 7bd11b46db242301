// Package hub downloads sentence embedding models from the Hugging Face Hub or a mirror of it: of all files of a model those that the
// engine reads. What was downloaded is checked against the sums that the hub gives, and a download that was cut off goes on where it
// stood.
//
// Functions block on the network and on file I/O. A Client may be used by several goroutines, a folder by one download at a time.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

const op = "download model"

// DefaultEndpoint is the hub itself.
const DefaultEndpoint = "https://huggingface.co"

// Names of the environment variables that other clients of the hub use too.
const (
	EndpointVariable = "HF_ENDPOINT"
	TokenVariable    = "HF_TOKEN" //nolint:gosec // a name
)

// Limits on what a server may make us read.
const (
	maxListingBytes = 32 << 20
	maxFiles        = 100_000
	maxModelBytes   = 1 << 40
	maxErrorBytes   = 4 << 10
)

// Config is what New needs. The zero value is the hub without a token.
type Config struct {
	// Endpoint is the URL of the hub or of a mirror. Empty means DefaultEndpoint.
	Endpoint string
	// Token proves who is asking, which some models want. It is sent to the endpoint's own host alone, and only over HTTPS or to
	// this machine.
	Token string
	// Transport makes the requests. Nil means one that is like http.DefaultTransport, and never connects to a metadata service.
	Transport http.RoundTripper
	// IdleTimeout is how long the other side may be silent. Zero means a minute.
	IdleTimeout time.Duration
	// Backoff is the pause before the first repetition, doubled each time up to 16 times. Zero means half a second.
	Backoff time.Duration
	// Progress is called when a file begins, with done zero or what was there already, now and then, and when it is complete. May be nil.
	Progress func(file string, doneBytes, totalBytes int64)
}

// Client asks one hub.
type Client struct {
	config   Config
	endpoint *url.URL
	http     *http.Client
}

// New returns a client. An endpoint that is no URL is an error of kind engine.KindInvalidArgument.
func New(config Config) (*Client, error) {
	if config.Endpoint == "" {
		config.Endpoint = DefaultEndpoint
	}
	endpoint, err := url.Parse(strings.TrimRight(config.Endpoint, "/"))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.RawQuery != "" || endpoint.User != nil {
		// What it says may be a secret.
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%s is not the URL of a hub", EndpointVariable).WithHint("write %s=%s", EndpointVariable, DefaultEndpoint)
	}
	if config.Transport == nil {
		config.Transport = guarded()
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = time.Minute
	}
	if config.Backoff == 0 {
		config.Backoff = 500 * time.Millisecond
	}
	c := &Client{config: config, endpoint: endpoint}
	c.http = &http.Client{Transport: &signer{base: config.Transport, origin: endpoint, token: config.Token}, CheckRedirect: checkRedirect}
	return c, nil
}

// guarded is a transport that connects to no metadata service, wherever a name or a redirection leads.
func guarded() http.RoundTripper {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // The program has put its own there.
	}
	own := base.Clone()
	own.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: blob.RefuseMetadata}).DialContext
	return own
}

// signer adds the token to requests that go to the hub itself. net/http would also send it to the hub's subdomains.
type signer struct {
	base   http.RoundTripper
	origin *url.URL
	token  string
}

// RoundTrip makes the request.
func (s *signer) RoundTrip(request *http.Request) (*http.Response, error) {
	if s.token == "" || request.URL.Host != s.origin.Host || request.URL.Scheme != s.origin.Scheme || s.origin.Scheme != "https" && !isLoopback(s.origin.Hostname()) {
		return s.base.RoundTrip(request)
	}
	signed := request.Clone(request.Context())
	signed.Header.Set("Authorization", "Bearer "+s.token)
	return s.base.RoundTrip(signed)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// errRedirected is what no repetition mends.
var errRedirected = errors.New("redirected")

func checkRedirect(request *http.Request, via []*http.Request) error {
	const most = 10
	switch {
	case len(via) > most:
		return fmt.Errorf("%w more than %d times", errRedirected, most)
	case via[0].URL.Scheme == "https" && request.URL.Scheme != "https":
		return fmt.Errorf("%w from https to %s", errRedirected, request.URL.Scheme)
	}
	return nil
}

// Snapshot is a model at one commit.
type Snapshot struct {
	// Ref is what was asked for.
	Ref Ref
	// Commit is what it means now: 40 or 64 hexadecimal digits.
	Commit string

	files map[string]file
}

// file is one of a snapshot's.
type file struct {
	name string
	// size is its length, or -1 if the hub does not say.
	size int64
	// sha256 is the sum of a large file, blob that of another as git has it. Either may be empty.
	sha256, blob string
}

var commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Snapshot asks what a model consists of. The error has kind engine.KindNotFound if there is no such model or revision,
// engine.KindPermission if the hub wants a token or another one, and engine.KindUnavailable if it does not answer.
func (c *Client) Snapshot(ctx context.Context, ref Ref) (*Snapshot, error) {
	revision := ref.Revision
	if revision == "" {
		revision = "main"
	}
	target := c.endpoint.JoinPath("api", "models", ref.Org, ref.Name, "revision")
	// A branch may have a slash, which stays within one element of the path.
	text := target.String() + "/" + url.PathEscape(revision) + "?blobs=true"
	var listing struct {
		Commit   string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size *int64 `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   *int64 `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	var content []byte
	err := c.retry(ctx, func() (progressed bool, err error) {
		content, err = c.get(ctx, ref, text)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	broken := func(format string, args ...any) error {
		return engine.Errorf(engine.KindUnavailable, op, ref.String(), "%s gave no list of files: "+format, append([]any{c.endpoint.Host}, args...)...).
			WithHint("%s must name a hub or a mirror of it", EndpointVariable)
	}
	if err := json.Unmarshal(content, &listing); err != nil {
		return nil, broken("%w", err)
	}
	if !commitPattern.MatchString(listing.Commit) || len(listing.Siblings) > maxFiles {
		return nil, broken("commit %.80q with %d files", listing.Commit, len(listing.Siblings))
	}
	s := &Snapshot{Ref: ref, Commit: listing.Commit, files: map[string]file{}}
	for _, f := range listing.Siblings {
		// A name that leads elsewhere is none of those that are looked for.
		if path.Clean(f.Name) != f.Name || !filepath.IsLocal(filepath.FromSlash(f.Name)) || strings.ContainsAny(f.Name, "\\:\x00") {
			continue
		}
		one := file{name: f.Name, size: -1, blob: f.Blob}
		size := f.Size
		if f.LFS != nil {
			one.sha256, one.blob = f.LFS.SHA256, ""
			if f.LFS.Size != nil {
				size = f.LFS.Size
			}
		}
		if size != nil {
			if one.size = *size; one.size < 0 || one.size > maxModelBytes {
				return nil, broken("%q has %d bytes", f.Name, one.size)
			}
		}
		s.files[f.Name] = one
	}
	return s, nil
}

// get reads a small answer.
func (c *Client) get(ctx context.Context, ref Ref, text string) ([]byte, error) {
	ctx, watch := c.watch(ctx)
	defer watch.stop()
	response, err := c.send(ctx, ref, text, nil)
	if err != nil {
		return nil, watch.explain(err)
	}
	defer func() { _ = response.Body.Close() }() // Only read.
	content, err := io.ReadAll(io.LimitReader(watch.reader(response.Body), maxListingBytes+1))
	if err != nil {
		return nil, again(watch.explain(broken(ref, err)))
	}
	if len(content) > maxListingBytes {
		return nil, engine.Errorf(engine.KindUnavailable, op, ref.String(), "the list of its files has more than %d bytes", maxListingBytes)
	}
	return content, nil
}

// send makes one request and turns everything but success, and a range that is not there, into an error.
func (c *Client) send(ctx context.Context, ref Ref, text string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, text, http.NoBody)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, op, ref.String(), "%w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", "engine")
	// Sizes and ranges are those of the file as it is.
	request.Header.Set("Accept-Encoding", "identity")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, again(broken(ref, err))
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return response, nil
	}
	defer func() { _ = response.Body.Close() }() // Only read.
	return nil, c.refused(ref, response)
}

// broken is an error of the network. The address that a redirection leads to may be a key to the file, and is not told.
func broken(ref Ref, err error) error {
	var where *url.Error
	host := ""
	if errors.As(err, &where) {
		if u, parseErr := url.Parse(where.URL); parseErr == nil {
			host = u.Host + ": "
		}
		err = where.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return engine.Errorf(engine.KindUnavailable, op, ref.String(), "%s%w", host, err).
		WithHint("%s names a mirror; a model that was downloaded elsewhere is imported by its folder", EndpointVariable)
}

// refused explains an answer that is no success. The hub says in a header which thing is missing.
func (c *Client) refused(ref Ref, response *http.Response) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBytes)) // so that the connection can be used again
	fail := func(kind engine.Kind, format string, args ...any) *engine.Error {
		return engine.Errorf(kind, op, ref.String(), format, args...)
	}
	host := response.Request.URL.Host
	status := fmt.Sprintf("%s answered %s", host, response.Status)
	if host != c.endpoint.Host {
		if response.StatusCode == http.StatusForbidden || response.StatusCode == http.StatusGone || temporary(response.StatusCode) {
			// The address expires, and is asked for again.
			return &tryAgain{err: fail(engine.KindUnavailable, "%s", status), after: retryAfter(response)}
		}
		return fail(engine.KindUnavailable, "%s", status)
	}
	token := "set " + TokenVariable + " to a token of an account that may read it"
	if c.config.Token != "" {
		token = "the account of " + TokenVariable + " may not read it"
		if c.endpoint.Scheme != "https" && !isLoopback(c.endpoint.Hostname()) {
			token = TokenVariable + " is sent over https alone"
		}
	}
	code := response.Header.Get("X-Error-Code")
	switch {
	case code == "RevisionNotFound":
		return fail(engine.KindNotFound, "%s has no such revision", ref.Repository())
	case code == "EntryNotFound":
		return fail(engine.KindNotFound, "a file that was listed is gone")
	case code == "GatedRepo":
		return fail(engine.KindPermission, "access to the model is granted by its owner: its page is %s/%s", c.endpoint, ref.Repository()).
			WithHint("accept its terms there, and %s", token)
	case code == "RepoNotFound", response.StatusCode == http.StatusNotFound:
		return fail(engine.KindNotFound, "there is no such model").WithHint("look at how it is spelled; if it is private, %s", token)
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		return fail(engine.KindPermission, "%s: the model is gated or private", status).WithHint("%s", token)
	case temporary(response.StatusCode):
		return &tryAgain{err: fail(engine.KindUnavailable, "%s", status), after: retryAfter(response)}
	}
	return fail(engine.KindUnavailable, "%s", status).WithHint("%s must name a hub or a mirror of it", EndpointVariable)
}

func temporary(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// retryAfter is how long the server wants to be left alone; zero if it does not say.
func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, math.MaxInt16)) * time.Second
}
