// Package web is the head's HTTP side: the two probes by which a supervisor learns whether it lives and serves, the metrics, and a page
// about each job.
package web

import (
	"net/http"
	"time"
)

// Handler answers /healthz (the process lives), /readyz (ready is true), /metrics, and /jobs/ID. Everything else is not found.
func Handler(ready func() bool, metrics http.Handler, jobs Jobs) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, true) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /jobs/{id...}", serveJob(jobs))
	return mux
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
