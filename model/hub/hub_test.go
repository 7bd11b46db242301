package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/hub"
	"github.com/f708428e/engine/model/hub/hubtest"
	"github.com/f708428e/engine/model/modeltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repository = "sentence-transformers/tiny"

// server has a model with what such a repository usually has besides.
func server(t testing.TB) *hubtest.Server {
	files := modeltest.Tiny("bert").Files()
	files["onnx/model.onnx"], files["onnx/model_O1.onnx"], files["pytorch_model.bin"] = []byte("x"), []byte("x"), []byte("x")
	files["vocab.txt"], files["../../evil.json"] = []byte("x"), []byte("x")
	return hubtest.New(t, repository, files)
}

// fetch downloads the model and returns the names of the files that the folder then has.
func fetch(t testing.TB, config hub.Config, uri, folder string) ([]string, error) {
	t.Helper()
	ref, err := hub.ParseRef(uri)
	if err != nil {
		t.Fatal(err)
	}
	config.Transport = &http.Transport{}
	t.Cleanup(config.Transport.(*http.Transport).CloseIdleConnections)
	if config.Backoff == 0 {
		config.Backoff = time.Microsecond
	}
	c, err := hub.New(config)
	if err != nil {
		return nil, err
	}
	s, err := c.Snapshot(t.Context(), ref)
	if err != nil {
		return nil, err
	}
	err = c.Download(t.Context(), s, folder)
	var names []string
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(folder, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	return names, err
}

var wanted = []string{"1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json"}

func TestDownload(t *testing.T) {
	for name, test := range map[string]struct {
		uri    string
		change func(s *hubtest.Server)
		config hub.Config
		want   []string
	}{
		"public":   {want: wanted},
		"revision": {uri: "hf://" + repository + "@refs/pr/1", want: wanted},
		"commit":   {uri: "hf://" + repository + "@" + hubtest.Commit, want: wanted},
		"token":    {change: func(s *hubtest.Server) { s.Token = "hf_x" }, config: hub.Config{Token: "hf_x"}, want: wanted},
		"no sizes": {change: func(s *hubtest.Server) { s.NoSizes = true }, want: wanted},
		"a graph where the family is unknown": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				f["config.json"] = bytes.Replace(f["config.json"], []byte(`"bert"`), []byte(`"modernbert"`), 1)
				f["onnx/model.onnx_data"] = []byte("x")
			},
			want: []string{"1_Pooling/config.json", "config.json", "modules.json", "onnx/model.onnx", "onnx/model.onnx_data", "sentence_bert_config.json", "tokenizer.json"},
		},
		"the only graph": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				delete(f, "model.safetensors")
				delete(f, "onnx/model.onnx")
			},
			want: []string{"1_Pooling/config.json", "config.json", "modules.json", "onnx/model_O1.onnx", "sentence_bert_config.json", "tokenizer.json"},
		},
		"shards in a folder, and a dense module": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				for _, name := range []string{"config.json", "tokenizer.json", "sentence_bert_config.json"} {
					f["0_Transformer/"+name] = f[name]
					delete(f, name)
				}
				delete(f, "model.safetensors")
				f["0_Transformer/model-00001-of-00002.safetensors"], f["0_Transformer/model-00002-of-00002.safetensors"] = []byte("x"), []byte("y")
				f["0_Transformer/model.safetensors.index.json"] = []byte("{}")
				f["2_Dense/config.json"], f["2_Dense/model.safetensors"] = []byte("{}"), []byte("x")
				f["modules.json"] = []byte(`[{"path":"0_Transformer"},{"path":"1_Pooling"},{"path":"2_Dense"},{"path":"../evil"}]`)
			},
			want: []string{
				"0_Transformer/config.json", "0_Transformer/model-00001-of-00002.safetensors", "0_Transformer/model-00002-of-00002.safetensors",
				"0_Transformer/model.safetensors.index.json", "0_Transformer/sentence_bert_config.json", "0_Transformer/tokenizer.json",
				"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "modules.json",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			if test.change != nil {
				test.change(s)
			}
			test.config.Endpoint = s.URL
			if test.uri == "" {
				test.uri = "hf://" + repository
			}
			folder := filepath.Join(t.TempDir(), "model")
			names, err := fetch(t, test.config, test.uri, folder)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(names, test.want) {
				t.Errorf("got %q, want %q", names, test.want)
			}
			for _, name := range names {
				if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.Equal(got, s.Models[repository][name]) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			if leaks := s.Leaks(); len(leaks) > 0 {
				t.Errorf("the other host got %q", leaks)
			}
			if slices.Equal(names, wanted) {
				if _, err := model.OpenEmbedding(t.Context(), folder); err != nil {
					t.Error(err)
				}
			}
			before := len(s.Requests())
			if _, err := fetch(t, test.config, test.uri, folder); err != nil || len(s.Requests()) != before+1 {
				t.Errorf("what is complete was asked for again: %q, %v", s.Requests()[before:], err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		uri    string
		change func(s *hubtest.Server)
		token  string
		kind   engine.Kind
		want   string
	}{
		"no such model":    {uri: "hf://sentence-transformers/other", kind: engine.KindNotFound, want: "hf://sentence-transformers/other: there is no such model"},
		"no such revision": {uri: "hf://" + repository + "@v2", kind: engine.KindNotFound, want: repository + " has no such revision"},
		"private":          {change: func(s *hubtest.Server) { s.Token = "hf_x" }, kind: engine.KindNotFound, want: "if it is private, set HF_TOKEN"},
		"gated": {
			change: func(s *hubtest.Server) { s.Token, s.Gated = "hf_x", true }, kind: engine.KindPermission,
			want: "/" + repository + " (accept its terms there, and set HF_TOKEN",
		},
		"gated, with the token of another": {
			change: func(s *hubtest.Server) { s.Token, s.Gated = "hf_x", true }, token: "hf_secret", kind: engine.KindPermission,
			want: "the account of HF_TOKEN may not read it",
		},
		"forbidden": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, _ bool) bool {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
			},
			kind: engine.KindPermission, want: "403 Forbidden: the model is gated or private (set HF_TOKEN",
		},
		"no hub": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, _ bool) bool {
					fmt.Fprint(w, "<html>welcome</html>")
					return true
				}
			},
			kind: engine.KindUnavailable, want: "gave no list of files",
		},
		"no commit": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, _ bool) bool {
					fmt.Fprint(w, `{"sha":"../../x","siblings":[]}`)
					return true
				}
			},
			kind: engine.KindUnavailable, want: `commit "../../x" with 0 files`,
		},
		"down": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, _ bool) bool {
					w.WriteHeader(http.StatusBadGateway)
					return true
				}
			},
			kind: engine.KindUnavailable, want: "answered 502 Bad Gateway",
		},
		"no tokenizer": {
			change: func(s *hubtest.Server) { delete(s.Models[repository], "tokenizer.json") }, kind: engine.KindModel, want: "it has no tokenizer.json",
		},
		"pickle": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				maps.DeleteFunc(f, func(name string, _ []byte) bool {
					return strings.HasSuffix(name, ".onnx") || strings.HasSuffix(name, ".safetensors")
				})
			},
			kind: engine.KindModel, want: "Python pickle",
		},
		"no weights": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				maps.DeleteFunc(f, func(name string, _ []byte) bool {
					return strings.HasSuffix(name, ".onnx") || strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".bin")
				})
			},
			kind: engine.KindModel, want: "it has no weights",
		},
		"several graphs": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				delete(f, "model.safetensors")
				delete(f, "onnx/model.onnx")
				f["onnx/model_int8.onnx"] = nil
			},
			kind: engine.KindModel, want: "onnx/model_O1.onnx, onnx/model_int8.onnx",
		},
		"a family that needs a graph": {
			change: func(s *hubtest.Server) {
				f := s.Models[repository]
				f["config.json"] = []byte(`{"model_type":"t5"}`)
				delete(f, "onnx/model.onnx")
				delete(f, "onnx/model_O1.onnx")
			},
			kind: engine.KindModel, want: `cannot make a graph for model_type "t5"`,
		},
		"damaged": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, large bool) bool {
					if large {
						_, _ = w.Write(make([]byte, len(s.Models[repository]["model.safetensors"])))
					}
					return large
				}
			},
			kind: engine.KindCorrupt, want: "model.safetensors: it has the sum",
		},
		"too long": {
			change: func(s *hubtest.Server) {
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, large bool) bool {
					if large {
						for range 1000 {
							_, _ = w.Write(make([]byte, 1000)) // the client hangs up
						}
					}
					return large
				}
			},
			kind: engine.KindCorrupt, want: "model.safetensors: the server sends more than",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			if test.change != nil {
				test.change(s)
			}
			if test.uri == "" {
				test.uri = "hf://" + repository
			}
			_, err := fetch(t, hub.Config{Endpoint: s.URL, Token: test.token}, test.uri, t.TempDir())
			if engine.KindOf(err) != test.kind || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %s, %v; want %s, %q", engine.KindOf(err), err, test.kind, test.want)
			}
			if text := fmt.Sprint(err); strings.Contains(text, "hf_") || strings.Contains(text, "secret") {
				t.Errorf("%q tells a secret", text)
			}
		})
	}
}

// TestGoesOn cuts connections, fails now and then, and answers ranges or not: the file arrives, and what was there is not sent twice.
func TestGoesOn(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		t.Run(fmt.Sprint("ranges ", ranges), func(t *testing.T) {
			s := server(t)
			content := s.Models[repository]["model.safetensors"]
			// Every answer brings a part; ten of them are more than a download may fail in a row without progress.
			var answers, sent atomic.Int64
			s.Intercept = func(w http.ResponseWriter, r *http.Request, large bool) bool {
				if !large {
					return false
				}
				n := answers.Add(1)
				var first int
				if ranges {
					_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
				}
				switch {
				case n%3 == 0:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[n%2])
					return true
				case n > 12 && !ranges:
					return false
				}
				end := min(first+len(content)/8, len(content))
				sent.Add(int64(end - first))
				if first > 0 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content)))
					w.Header().Set("Content-Length", fmt.Sprint(len(content)-first))
					w.WriteHeader(http.StatusPartialContent)
				} else {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				}
				_, _ = w.Write(content[first:end])
				if end < len(content) {
					panic(http.ErrAbortHandler)
				}
				return true
			}
			var last atomic.Int64
			folder := t.TempDir()
			_, err := fetch(t, hub.Config{Endpoint: s.URL, Progress: func(file string, done, total int64) {
				if file == "model.safetensors" && total == int64(len(content)) {
					last.Store(done)
				}
			}}, "hf://"+repository, folder)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(folder, "model.safetensors")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if ranges && sent.Load() != int64(len(content)) {
				t.Errorf("%d bytes were sent, the file has %d", sent.Load(), len(content))
			}
			if last.Load() != int64(len(content)) {
				t.Errorf("the last progress told %d bytes", last.Load())
			}
		})
	}
}

// TestGoesOnLater leaves parts of any content behind, which an earlier call may have, and of another file.
func TestGoesOnLater(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	s := server(t)
	content := s.Models[repository]["model.safetensors"]
	for range 20 {
		n := random.IntN(2 * len(content))
		part := slices.Concat(content, make([]byte, len(content)))[:n]
		if random.IntN(2) == 0 && n > 0 {
			part[random.IntN(n)] ^= 1
		}
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "model.safetensors.part"), part, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, sizes := range []bool{false, true} {
			s.NoSizes = sizes
			names, err := fetch(t, hub.Config{Endpoint: s.URL}, "hf://"+repository, folder)
			if err != nil || !slices.Equal(names, wanted) {
				t.Fatalf("seed %d: %d bytes: %q, %v", seed, n, names, err)
			}
			if got, err := os.ReadFile(filepath.Join(folder, "model.safetensors")); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
			}
		}
	}
}

func TestSilence(t *testing.T) {
	s := server(t)
	quiet := make(chan struct{})
	s.Intercept = func(w http.ResponseWriter, r *http.Request, large bool) bool {
		if large {
			w.Header().Set("Content-Length", "100000")
			_ = http.NewResponseController(w).Flush() // nothing follows
			select {
			case <-quiet:
			case <-r.Context().Done():
			}
		}
		return large
	}
	defer close(quiet)
	s.NoSizes = true
	_, err := fetch(t, hub.Config{Endpoint: s.URL, IdleTimeout: 20 * time.Millisecond}, "hf://"+repository, t.TempDir())
	if engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(fmt.Sprint(err), "the other side is silent for 20ms") {
		t.Errorf("got %v", err)
	}
}

func TestCanceled(t *testing.T) {
	s := server(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Intercept = func(http.ResponseWriter, *http.Request, bool) bool { cancel(); return false }
	c, err := hub.New(hub.Config{Endpoint: s.URL, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Snapshot(ctx, hub.Ref{Org: "a", Name: "b"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, bad := range []string{"huggingface.co", "ftp://x", "https://user:secret@x", "https://", "://"} {
		if _, err := hub.New(hub.Config{Endpoint: bad}); engine.KindOf(err) != engine.KindInvalidArgument || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

// TestTokenStaysHome asks hosts through a transport that only looks.
func TestTokenStaysHome(t *testing.T) {
	for _, test := range []struct {
		endpoint, redirect string
		want               []string
	}{
		{"https://hub.example", "https://cdn.hub.example/x", []string{"Bearer hf_x", ""}},
		{"https://hub.example", "https://hub.example:444/x", []string{"Bearer hf_x", ""}},
		{"https://hub.example", "https://hub.example/renamed", []string{"Bearer hf_x", "Bearer hf_x"}},
		{"https://hub.example", "http://hub.example/x", []string{"Bearer hf_x"}},
		{"http://hub.example", "http://hub.example/x", []string{"", ""}},
	} {
		var got []string
		c, err := hub.New(hub.Config{Endpoint: test.endpoint, Token: "hf_x", Backoff: time.Microsecond, Transport: transport(func(r *http.Request) (*http.Response, error) {
			got = append(got, r.Header.Get("Authorization"))
			w := &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}
			if len(got) == 1 {
				w.StatusCode = http.StatusFound
				w.Header.Set("Location", test.redirect)
			}
			return w, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Snapshot(t.Context(), hub.Ref{Org: "a", Name: "b"})
		if err == nil || !slices.Equal(got, test.want) {
			t.Errorf("%s to %s: sent %q, %v", test.endpoint, test.redirect, got, err)
		}
	}
}

type transport func(r *http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestParseRef(t *testing.T) {
	for uri, want := range map[string]hub.Ref{
		"hf://BAAI/bge-small-en-v1.5":     {Org: "BAAI", Name: "bge-small-en-v1.5"},
		"hf://a/b@refs/pr/1":              {Org: "a", Name: "b", Revision: "refs/pr/1"},
		"hf://a_b/c.d@" + hubtest.Commit:  {Org: "a_b", Name: "c.d", Revision: hubtest.Commit},
		"hf://intfloat/multilingual-e5@1": {Org: "intfloat", Name: "multilingual-e5", Revision: "1"},
	} {
		got, err := hub.ParseRef(uri)
		if err != nil || got != want || got.String() != uri {
			t.Errorf("%s: got %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"", "hf://", "hf://a", "hf://a/", "hf:///b", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/..", "hf://a/b@../../x", "hf://a/b@x?y", "hf://a/b c",
		"https://huggingface.co/a/b", "hf://a/b\n", "hf://a/b@-x", "hf://" + strings.Repeat("a", 97) + "/b",
	} {
		if got, err := hub.ParseRef(uri); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: got %+v, %v", uri, got, err)
		}
	}
}
