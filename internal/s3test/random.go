package s3test

import (
	"math/rand/v2"
	"net/http"
	"time"
)

// FailAtRandom has a share of all requests fail in ways that a client must outlive: it is slow, refused, told to slow down, cut off in
// the request or in the answer, damaged, or its reply is lost after the server has done what was asked. Requests that are repeated may
// fail again. The same seed and order of requests give the same faults.
func (p *Proxy) FailAtRandom(seed uint64, share float64) {
	random := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // A test's randomness.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.random = func(r *http.Request) *Fault {
		if random.Float64() >= share {
			return nil
		}
		switch random.IntN(8) {
		case 0:
			return &Fault{Delay: time.Duration(random.IntN(50)) * time.Millisecond}
		case 1:
			return &Fault{Refuse: true}
		case 2:
			return &Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown", Header: http.Header{"Retry-After": {"0"}}}
		case 3:
			return &Fault{Status: http.StatusInternalServerError, Code: "InternalError", Stored: random.IntN(2) == 0}
		case 4:
			return &Fault{CutAfter: 1 + random.Int64N(2000)}
		case 5:
			return &Fault{CutSent: 1 + random.Int64N(max(1, r.ContentLength))}
		case 6:
			// A client that puts knows by checksum that what it sent was damaged.
			if r.Method == http.MethodPut {
				return &Fault{FlipSent: 1 + random.Int64N(max(1, r.ContentLength))}
			}
			return &Fault{Refuse: true}
		default:
			return &Fault{Stored: true}
		}
	}
}

// Met counts the faults that happened at random.
func (p *Proxy) Met() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}
