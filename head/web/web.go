// Package web is the head's HTTP side: the two probes by which a supervisor learns whether it lives and serves, the metrics, and a page
// about each job.
package web

import (
	"net/http"
	"time"
)

// Router takes routes, by the patterns of http.ServeMux. One that stands before the world, access.Web, has a rule for each.
type Router interface {
	Handle(pattern string, handler http.Handler)
}

// Register adds what there is to a router: /healthz (the process lives), /readyz (ready is true), /metrics, and /jobs/ID.
func Register(router Router, ready func() bool, metrics http.Handler, jobs Jobs) {
	probe := func(ok func() bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, ok()) })
	}
	router.Handle("GET /healthz", probe(func() bool { return true }))
	router.Handle("GET /readyz", probe(ready))
	router.Handle("GET /metrics", metrics)
	router.Handle("GET /jobs/{id...}", serveJob(jobs))
}

// answer writes the probe's result. A client that has gone away cannot be told.
func answer(w http.ResponseWriter, ok bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	text := "ok\n"
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = "not ready\n"
	}
	_, _ = w.Write([]byte(text))
}

// NewServer makes a server with the limits that a port open to others needs.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}
