// Package hubtest is a server that behaves as the Hugging Face Hub does, for tests: it lists the files of models, redirects to
// another host for large ones, answers ranges, and can be told to fail.
package hubtest

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's sums
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Commit is the commit of the models.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// LargeBytes is the length from which a file lies on the other host.
const LargeBytes = 2048

// Server is a hub with models. Its fields are set before the first request.
type Server struct {
	// URL is the endpoint.
	URL string
	// Models are the files of each model by ORG/NAME.
	Models map[string]map[string][]byte
	// Token is what a caller must have; empty if models are public.
	Token string
	// Gated says that the model must be asked for first.
	Gated bool
	// NoSizes leaves lengths and sums out of the list, as some mirrors do.
	NoSizes bool
	// Intercept may answer a request itself, and then returns true. large says that it is one to the host of large files.
	Intercept func(w http.ResponseWriter, r *http.Request, large bool) bool

	large *httptest.Server
	mu    sync.Mutex
	log   []string
	leaks []string
}

// New starts a server with one model, which ends with the test.
func New(t testing.TB, repository string, files map[string][]byte) *Server {
	t.Helper()
	s := &Server{Models: map[string]map[string][]byte{repository: files}}
	hub := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(hub.Close)
	s.large = httptest.NewServer(http.HandlerFunc(s.serveLarge))
	t.Cleanup(s.large.Close)
	s.URL = hub.URL
	return s
}

// Requests returns what was asked for so far: method, path, and range.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// Leaks returns the tokens that were sent to the host of large files, which must have none.
func (s *Server) Leaks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.leaks...)
}

func (s *Server) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Error-Code", code)
	w.WriteHeader(status)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.note(r)
	if s.Intercept != nil && s.Intercept(w, r, false) {
		return
	}
	authorized := s.Token == "" || r.Header.Get("Authorization") == "Bearer "+s.Token
	rest, isList := strings.CutPrefix(r.URL.Path, "/api/models/")
	parts := strings.SplitN(strings.TrimPrefix(rest, "/"), "/", 4)
	if len(parts) < 4 {
		refuse(w, http.StatusNotFound, "")
		return
	}
	repository := parts[0] + "/" + parts[1]
	files, ok := s.Models[repository]
	switch {
	case !authorized && s.Gated && ok:
		refuse(w, http.StatusUnauthorized, "GatedRepo")
	case !ok && !authorized, !authorized:
		// It does not say whether a private model exists.
		refuse(w, http.StatusUnauthorized, "RepoNotFound")
	case !ok:
		refuse(w, http.StatusNotFound, "RepoNotFound")
	case isList && parts[2] == "revision":
		s.list(w, parts[3], files)
	case parts[2] == "resolve":
		revision, name, _ := strings.Cut(parts[3], "/")
		content, ok := files[name]
		switch {
		case revision != Commit:
			refuse(w, http.StatusNotFound, "RevisionNotFound")
		case !ok:
			refuse(w, http.StatusNotFound, "EntryNotFound")
		case len(content) >= LargeBytes:
			w.Header().Set("X-Linked-Etag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
			w.Header().Set("X-Linked-Size", fmt.Sprint(len(content)))
			http.Redirect(w, r, s.large.URL+"/"+repository+"/"+name+"?signature=secret", http.StatusFound)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	default:
		refuse(w, http.StatusNotFound, "")
	}
}

func (s *Server) list(w http.ResponseWriter, revision string, files map[string][]byte) {
	if revision != "main" && revision != "v1" && revision != "refs/pr/1" && revision != Commit {
		refuse(w, http.StatusNotFound, "RevisionNotFound")
		return
	}
	siblings := []map[string]any{}
	for name, content := range files {
		one := map[string]any{"rfilename": name}
		if !s.NoSizes {
			one["size"] = len(content)
			one["blobId"] = fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))) //nolint:gosec // git's
			if len(content) >= LargeBytes {
				// That of the pointer that git keeps.
				one["blobId"] = strings.Repeat("1", 40)
				one["lfs"] = map[string]any{"sha256": fmt.Sprintf("%x", sha256.Sum256(content)), "size": len(content), "pointerSize": 134}
			}
		}
		siblings = append(siblings, one)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"sha": Commit, "siblings": siblings}) // The client sees what is missing.
}

func (s *Server) serveLarge(w http.ResponseWriter, r *http.Request) {
	s.note(r)
	if token := r.Header.Get("Authorization"); token != "" {
		s.mu.Lock()
		s.leaks = append(s.leaks, token)
		s.mu.Unlock()
	}
	if s.Intercept != nil && s.Intercept(w, r, true) {
		return
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	content, ok := s.Models[parts[0]+"/"+parts[1]][parts[2]]
	if !ok || r.URL.Query().Get("signature") != "secret" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
