package e2e_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// asVera has a request show a viewer's token, as a browser would in which she has put one.
func (b *besieged) asVera(change func(r *http.Request)) func(r *http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+b.tokens["vera"])
		if change != nil {
			change(r)
		}
	}
}

func (b *besieged) webAddress() string { return strings.TrimPrefix(b.head.Web, "https://") }

// dialWeb makes a connection to the web port.
func (b *besieged) dialWeb() *tls.Conn {
	b.place.t.Helper()
	return b.dialTLS(b.webAddress(), "http/1.1").(*tls.Conn)
}

var webAttacks = []attack{
	{does: "has a name of its own lead to the head (DNS rebinding)", gets: []string{"403 Forbidden", "which is not this one"}, logged: []string{"a call was refused", "evil.example"}, try: func(b *besieged) string {
		return b.gets("/metrics", b.asVera(func(r *http.Request) { r.Host = "evil.example:8265" }))
	}},
	{does: "asks from a page of another origin", gets: []string{"403 Forbidden", "another origin"}, try: func(b *besieged) string {
		return b.gets("/metrics", b.asVera(func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }))
	}},
	{does: "asks from a page in a sandbox, whose origin is null", gets: []string{"403 Forbidden", "another origin"}, try: func(b *besieged) string {
		return b.gets("/metrics", b.asVera(func(r *http.Request) { r.Header.Set("Origin", "null") }))
	}},
	{does: "loads a page of the head as an image of another site", gets: []string{"403 Forbidden", "another site"}, try: func(b *besieged) string {
		return b.gets("/jobs/"+b.job, b.asVera(func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }))
	}},
	{does: "posts text/plain, for which a browser asks nobody", gets: []string{"405 Method Not Allowed"}, try: func(b *besieged) string {
		return b.gets("/jobs/"+b.job, b.asVera(func(r *http.Request) {
			r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(`{"entrypoint": "id"}`))
			r.Header.Set("Content-Type", "text/plain")
		}))
	}},
	{does: "submits a job as one would to Ray's dashboard (CVE-2023-48022)", gets: []string{"404 Not Found"}, try: func(b *besieged) string {
		return b.gets("/api/jobs/", b.asVera(func(r *http.Request) {
			r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(`{"entrypoint": "id"}`))
		}))
	}},
	{does: "asks whether another origin may ask (CORS)", gets: []string{"403 Forbidden", "nothing allowed"}, try: func(b *besieged) string {
		said := b.gets("/metrics", func(r *http.Request) {
			r.Method = http.MethodOptions
			r.Header.Set("Origin", "https://evil.example")
			r.Header.Set("Access-Control-Request-Method", "GET")
		})
		if strings.Contains(said, "Access-Control-Allow") {
			return said
		}
		return said + "nothing allowed"
	}},
	{does: "shows the head's page in a frame of its own (clickjacking)", gets: []string{"200 OK", "X-Frame-Options: DENY", "frame-ancestors 'none'"}, try: func(b *besieged) string {
		return b.gets("/jobs/"+b.job, b.asVera(nil))
	}},
	{does: "names a job so that it is a script in the page", gets: []string{"200 OK", "&lt;script&gt;", "default-src 'none'"}, try: func(b *besieged) string {
		spec := b.spec("a", b.path("script"))
		spec.Name = "<script>alert(1)</script>"
		response, err := b.jobs().SubmitJob(b.user("alice"), &enginev1.SubmitJobRequest{Spec: spec})
		if err != nil {
			return answer(nil, err)
		}
		said := b.gets("/jobs/"+response.GetJob().GetJobId(), b.asVera(nil))
		if strings.Contains(said, "<script>") {
			return "a script is in the page"
		}
		return said
	}},
	{does: "reads files through the path of a page", gets: []string{"404 Not Found", "no file"}, try: func(b *besieged) string {
		var all strings.Builder
		for _, path := range []string{"/jobs/../../etc/passwd", "/jobs/..%2f..%2f..%2fetc%2fpasswd", "/jobs/%2e%2e/%2e%2e/etc/passwd", "/..%00/etc/passwd"} {
			said := b.gets(path, b.asVera(nil))
			if strings.Contains(said, "root:") || strings.HasPrefix(said, "200") {
				return "let in by " + path
			}
			all.WriteString(said[:min(len(said), 40)] + "; ")
		}
		return all.String() + "no file"
	}},
	{does: "reads the page of a job of another queue", gets: []string{"404 Not Found", "no such job"}, logged: []string{"a call was refused", "GET /jobs/", "bob", "not granted"}, try: func(b *besieged) string {
		return b.gets("/jobs/"+b.job, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+b.tokens["bob"]) })
	}},
	{does: "reads the metrics without saying who it is", gets: []string{"401 Unauthorized", "Www-Authenticate"}, try: func(b *besieged) string {
		return b.gets("/metrics", nil)
	}},
	{does: "looks for Go's profiler and other doors", gets: []string{"404"}, try: func(b *besieged) string {
		for _, path := range []string{"/debug/pprof/", "/debug/vars", "/admin", "/.git/config", "/api/v1/jobs"} {
			if said := b.gets(path, b.asVera(nil)); !strings.HasPrefix(said, "404") {
				return path + ": " + said
			}
		}
		return "404"
	}},
	{does: "sends a header of 64 KiB", gets: []string{"431 Request Header Fields Too Large"}, try: func(b *besieged) string {
		return b.gets("/healthz", func(r *http.Request) { r.Header.Set("X-Large", strings.Repeat("x", 64<<10)) })
	}},
	{does: "hides a second request behind a length and a chunked body (smuggling)", gets: []string{closed, "one answer"}, try: func(b *besieged) string {
		said := b.raw(b.dialWeb(), "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if n := strings.Count(said, "HTTP/1.1 "); n != 1 {
			return said
		}
		return said + "one answer"
	}},
	{does: "sends a request a byte a second (slowloris)", slow: true, gets: []string{"cut off"}, try: func(b *besieged) string {
		conn := b.dialWeb()
		defer func() { _ = conn.Close() }()
		begun := time.Now()
		for _, c := range []byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", 300)) {
			if _, err := conn.Write([]byte{c}); err != nil {
				return "cut off: " + err.Error()
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := conn.Read(make([]byte, 1024)); err == nil || !isTimeout(err) {
				return "cut off after " + time.Since(begun).Round(time.Second).String()
			}
		}
		return "heard to the end"
	}},
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
