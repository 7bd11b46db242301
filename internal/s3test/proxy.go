package s3test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is one way in which a request fails. All fields but Match and Times combine.
type Fault struct {
	// Match chooses the requests. Nil means all.
	Match func(*http.Request) bool
	// Skip lets so many requests that match pass before.
	Skip int
	// Times is how many requests fail. Zero means 1, less than zero all.
	Times int
	// Delay holds the request back, until its client gives up at the longest.
	Delay time.Duration
	// Before is called before the request is passed on, so that a test can do something in between.
	Before func()
	// Status, if not zero, is answered with an error document of the name Code instead of asking the server; if Stored is set the
	// server is asked and its answer thrown away.
	Status int
	Code   string
	Header http.Header
	// Stored with no Status breaks the connection after the server did what was asked: the reply is lost.
	Stored bool
	// CutAfter, if above zero, breaks the connection after so many bytes of the answer's body.
	CutAfter int64
	// Stall holds the answer after CutAfter bytes instead of breaking it, until the client gives up.
	Stall bool
	// Flip damages the byte of the answer's body at this offset, counted from 1.
	Flip int64
	// FlipSent damages the byte of the request's body at this offset, counted from 1.
	FlipSent int64
	// CutSent, if above zero, breaks the connection to the server after so many bytes of the request's body.
	CutSent int64
	// ETag replaces that of the answer, if not empty.
	ETag string
	// Early answers with Status before the request's body was read.
	Early bool
	// Refuse breaks the connection without an answer, before the server has heard anything.
	Refuse bool
}

// Request is what a proxy remembers of a request.
type Request struct {
	Method, Path, Query string
	Header              http.Header
}

// Proxy stands before a server. It is safe for concurrent use.
type Proxy struct {
	// Endpoint is its URL.
	Endpoint string
	// ended is closed with the test. A request's context does not end with its client before its body was read.
	ended  chan struct{}
	mu     sync.Mutex
	faults []*Fault
	seen   []Request
	// random makes faults if it is not nil; met counts them.
	random func(*http.Request) *Fault
	met    int
}

// faultKey marks the fault of a request in its context.
type faultKey struct{}

// NewProxy starts a proxy on a free port. It ends with the test.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	forward := &httputil.ReverseProxy{
		// The host stays the proxy's, since it is signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		},
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: damage,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:       log.New(io.Discard, "", 0), // what fails is what was ordered
	}
	p := &Proxy{ended: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) }))
	server.Start()
	p.Endpoint = server.URL
	t.Cleanup(func() {
		close(p.ended)
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Fail adds a fault. A request meets the first one that matches and is not used up.
func (p *Proxy) Fail(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Reset forgets all faults and requests.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen, p.random, p.met = nil, nil, nil, 0
}

// Requests returns those that came, in order.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Unused counts the failures that were ordered and have not happened.
func (p *Proxy) Unused() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		n += max(0, f.Times)
	}
	return n
}

// Method matches the requests with a method whose path and query hold all words.
func Method(method string, words ...string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if r.Method != method {
			return false
		}
		for _, word := range words {
			if !strings.Contains(r.URL.RequestURI(), word) {
				return false
			}
		}
		return true
	}
}

// next returns the fault that a request meets, or nil.
func (p *Proxy) next(r *http.Request) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()})
	for _, f := range p.faults {
		switch {
		case f.Times == 0 || f.Match != nil && !f.Match(r):
		case f.Skip > 0:
			f.Skip--
			return nil
		default:
			if f.Times > 0 {
				f.Times--
			}
			return f
		}
	}
	if p.random != nil {
		if f := p.random(r); f != nil {
			p.met++
			return f
		}
	}
	return nil
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	f := p.next(r)
	if f == nil {
		forward.ServeHTTP(w, r)
		return
	}
	if f.Before != nil {
		f.Before()
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-p.ended:
			panic(http.ErrAbortHandler)
		}
	}
	if f.Refuse {
		panic(http.ErrAbortHandler)
	}
	if f.FlipSent > 0 {
		r.Body = &damaged{ReadCloser: r.Body, fault: &Fault{Flip: f.FlipSent}, context: r.Context()}
	}
	if f.CutSent > 0 && f.CutSent < r.ContentLength {
		r.Body = &damaged{ReadCloser: r.Body, fault: &Fault{CutAfter: f.CutSent}, context: r.Context()}
	}
	if f.Stored {
		forward.ServeHTTP(&discard{header: http.Header{}}, r)
		if f.Status == 0 {
			panic(http.ErrAbortHandler)
		}
	}
	if f.Status != 0 {
		if !f.Early {
			_, _ = io.Copy(io.Discard, r.Body) // its client may have gone
		}
		for name, values := range f.Header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(f.Status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>by order of the test</Message></Error>", f.Code)
		}
		return
	}
	forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, f)))
}

// discard takes an answer that nobody is to see.
type discard struct{ header http.Header }

// Header implements http.ResponseWriter. What is set there goes nowhere.
func (d *discard) Header() http.Header { return d.header }

func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter, and does nothing.
func (d *discard) WriteHeader(int) {}

// damage applies a fault to an answer.
func damage(response *http.Response) error {
	f, ok := response.Request.Context().Value(faultKey{}).(*Fault)
	if ok && f.ETag != "" && response.Header.Get("ETag") != "" {
		response.Header.Set("ETag", f.ETag)
	}
	if ok && (f.CutAfter > 0 || f.Flip > 0) {
		response.Body = &damaged{ReadCloser: response.Body, fault: f, context: response.Request.Context()}
	}
	return nil
}

// damaged is an answer's body with a fault.
type damaged struct {
	io.ReadCloser
	fault   *Fault
	at      int64
	context context.Context //nolint:containedctx // the request's, for as long as its answer is read
}

func (d *damaged) Read(p []byte) (int, error) {
	if d.fault.CutAfter > 0 {
		if left := d.fault.CutAfter - d.at; left == 0 {
			if d.fault.Stall {
				<-d.context.Done()
			}
			return 0, io.ErrUnexpectedEOF
		} else if int64(len(p)) > left {
			p = p[:left]
		}
	}
	n, err := d.ReadCloser.Read(p)
	if i := d.fault.Flip - 1 - d.at; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	d.at += int64(n)
	return n, err
}
