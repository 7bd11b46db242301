package access

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

// Web serves web routes under the table: what a browser could be made to do for a page of somebody else is refused, and so is whoever may
// not. The server needs ConnContext.
type Web struct {
	guard *Guard
	mux   *http.ServeMux
	hosts []string
}

// NewWeb makes a Web without routes. hosts are the names by which the port is reached beside loopback and the addresses of its connections:
// a request that names another one comes from a page that has had its own name point here.
func (g *Guard) NewWeb(hosts ...string) *Web {
	return &Web{guard: g, mux: http.NewServeMux(), hosts: hosts}
}

// Handle adds a route, such as "GET /healthz", for which there must be a rule; it panics if there is none.
func (w *Web) Handle(pattern string, handler http.Handler) {
	rule, ok := RuleFor(pattern)
	if !ok {
		panic("access: there is no rule for the route " + pattern)
	}
	w.mux.Handle(pattern, w.route(rule, handler))
}

type connKey struct{}

// ConnContext is that of an http.Server whose handler is a Web: it keeps what the connection says of its other end.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// ServeHTTP implements http.Handler.
func (w *Web) ServeHTTP(writer http.ResponseWriter, r *http.Request) {
	headers := writer.Header()
	headers.Set("X-Content-Type-Options", "nosniff")
	headers.Set("X-Frame-Options", "DENY")
	headers.Set("Referrer-Policy", "no-referrer")
	headers.Set("Cross-Origin-Resource-Policy", "same-origin")
	headers.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	headers.Set("Cache-Control", "no-store")
	if err := w.checkBrowser(r); err != nil {
		c := &caller{call: r.Method + " " + r.URL.Path, from: r.RemoteAddr}
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			c.source = source(conn.RemoteAddr())
		}
		refuseWeb(writer, w.guard.refused(r.Context(), c, err))
		return
	}
	w.mux.ServeHTTP(&strictWriter{ResponseWriter: writer}, r)
}

// checkBrowser refuses what a browser does for a page of somebody else: a page whose own name was made to stand for this address (the Host
// is another one), and a page that sends or loads from here (the Origin, or what the browser says of it, is another one). Programs that
// are no browsers send neither an Origin nor Sec-Fetch-Site.
func (w *Web) checkBrowser(r *http.Request) error {
	host := hostOf(r.Host)
	if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && !slices.ContainsFunc(w.hosts, func(known string) bool { return strings.EqualFold(known, host) }) &&
		(ip == nil || !ip.IsLoopback() && !isOwnAddress(r.Context(), ip)) {
		return engine.Errorf(engine.KindPermission, opCall, "", "the request is for the host %q, which is not this one", host).
			WithHint("use the address that the head was started with")
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
	default:
		return engine.Errorf(engine.KindPermission, opCall, "", "the request was made by a page of another site (%q)", site)
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	parsed, err := url.Parse(origin)
	if err != nil || !strings.EqualFold(parsed.Host, r.Host) || parsed.Host == "" {
		return engine.Errorf(engine.KindPermission, opCall, "", "the request was made by a page of another origin, %q", origin)
	}
	return nil
}

// hostOf is the host of a Host header, without its port.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.Trim(header, "[]")
}

// isOwnAddress reports whether an address is the one that the connection was made to: no name had to be resolved for it.
func isOwnAddress(ctx context.Context, ip net.IP) bool {
	local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	own := net.ParseIP(hostOf(local.String()))
	return own != nil && own.Equal(ip)
}

// route applies a rule to a route.
func (w *Web) route(rule Rule, handler http.Handler) http.Handler {
	g := w.guard
	return http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		c := &caller{call: rule.Name, from: r.RemoteAddr}
		var address net.Addr
		var known pki.Link
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			address = conn.RemoteAddr()
			know(address) // HTTP's own limits hold, and the routes read no bodies of strangers.
			var err error
			if known, err = pki.LinkOfConn(conn); err != nil && !rule.Open {
				refuseWeb(writer, err)
				return
			}
		}
		err := g.look(c, r.Header.Values("Authorization"), address, known)
		if err == nil {
			err = g.settle(r.Context(), c)
		}
		if err != nil {
			refuseWeb(writer, g.refused(r.Context(), c, err))
			return
		}
		done, err := g.usage.begin(c.identity, c.source)
		if err != nil {
			refuseWeb(writer, err)
			return
		}
		defer done()
		if err := g.allowed(r.Context(), c, rule, target(r.URL.Path)); err != nil {
			refuseWeb(writer, err)
			return
		}
		handler.ServeHTTP(writer, r.WithContext(context.WithValue(With(r.Context(), c.identity), callerKey{}, c)))
		if hidden := c.hidden.Load(); hidden != nil {
			g.note(r.Context(), c, r.URL.Path, *hidden)
		}
	})
}

// refuseWeb answers that a request is refused, and why.
func refuseWeb(writer http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch engine.KindOf(err) {
	case engine.KindUnauthenticated:
		status = http.StatusUnauthorized
		writer.Header().Set("WWW-Authenticate", `Bearer realm="engine"`)
	case engine.KindPermission:
		status = http.StatusForbidden
	case engine.KindExhausted:
		status = http.StatusTooManyRequests
	case engine.KindUnavailable:
		status = http.StatusServiceUnavailable
	}
	writer.Header().Set("Content-Type", "text/plain; charset=utf-8")
	writer.WriteHeader(status)
	_, _ = writer.Write([]byte(err.Error() + "\n")) // A client that has gone away cannot be told.
}

// strictWriter lets no cookie out that a page of another site could use.
type strictWriter struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (s *strictWriter) WriteHeader(status int) {
	s.begin()
	s.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (s *strictWriter) Write(p []byte) (int, error) {
	s.begin()
	return s.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (s *strictWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *strictWriter) begin() {
	if s.begun {
		return
	}
	s.begun = true
	cookies := s.Header()["Set-Cookie"]
	if len(cookies) == 0 {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(cookies), func(line string) bool {
		cookie, err := http.ParseSetCookie(line)
		return err != nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode && cookie.SameSite != http.SameSiteLaxMode
	})
	s.Header()["Set-Cookie"] = kept
}
