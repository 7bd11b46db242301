package pki

import (
	"context"
	"time"

	"github.com/f708428e/engine"
)

const (
	// minPause and maxPause bound the pause between two tries to renew a certificate.
	minPause = time.Second
	maxPause = time.Minute
	// late is the part of a certificate's life after which one that could not be renewed is a worry.
	late = 5.0 / 6
)

// Issued is what an authority has made of a request.
type Issued struct {
	// Certificate is the node's, in PEM.
	Certificate []byte
}

// renewAt is when a certificate is to be renewed: after two thirds of its life. A clock that goes wrong by less than the rest of it does no
// harm.
func renewAt(notBefore, notAfter time.Time) time.Time {
	made := notBefore.Add(MaxSkew)
	if made.After(notAfter) {
		made = notBefore
	}
	return made.Add(notAfter.Sub(made) * 2 / 3)
}

// Renew keeps the identity's certificate from ending, until ctx ends: after two thirds of its life it makes a new key, and has renew get a
// certificate for it. What fails is tried again. save, if it is not nil, keeps what came; a failure of that is logged alone.
func (i *Identity) Renew(ctx context.Context, renew func(ctx context.Context, csr []byte) (Issued, error), save func(cert, key []byte) error) error {
	var pause time.Duration
	for {
		h := i.held.Load()
		now := i.now()
		wait := renewAt(h.leaf.NotBefore, h.leaf.NotAfter).Sub(now)
		if pause > 0 {
			wait = pause
		}
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		err := i.renewOnce(ctx, renew, save)
		switch {
		case err == nil:
			pause = 0
			i.logger.InfoContext(ctx, "the node's certificate was renewed", "peer", i.Peer().String(), "serial", i.Peer().Serial, "ends", i.Ends())
		case ctx.Err() != nil:
			return nil //nolint:nilerr // The process ends.
		default:
			pause = min(max(2*pause, minPause), maxPause)
			life := h.leaf.NotAfter.Sub(h.leaf.NotBefore.Add(MaxSkew))
			switch left := h.leaf.NotAfter.Sub(i.now()); {
			case left <= 0:
				i.logger.ErrorContext(ctx, "the node's certificate has ended, and it was not renewed: nobody accepts it any more; join again with a new token", "peer", h.peer.String(), "ended", h.leaf.NotAfter, "error", err)
			case float64(left) < (1-late)*float64(life):
				i.logger.WarnContext(ctx, "the node's certificate is about to end, and could not be renewed yet", "peer", h.peer.String(), "ends", h.leaf.NotAfter, "error", err)
			default:
				i.logger.InfoContext(ctx, "the node's certificate could not be renewed yet", "peer", h.peer.String(), "ends", h.leaf.NotAfter, "error", err)
			}
		}
	}
}

func (i *Identity) renewOnce(ctx context.Context, renew func(ctx context.Context, csr []byte) (Issued, error), save func(cert, key []byte) error) error {
	key, csr, err := NewRequest()
	if err != nil {
		return err
	}
	issued, err := renew(ctx, csr)
	if err != nil {
		return err
	}
	certs, err := decodeCertificates(issued.Certificate, "the head")
	if err != nil {
		return err
	}
	before := i.Peer()
	switch now, err := PeerIn(certs[0]); {
	case err != nil:
		return err
	case now.Role != before.Role, now.Name != before.Name, now.Cluster != before.Cluster:
		return engine.Errorf(engine.KindInternal, "renew certificate", before.String(), "the head has made one for %s of cluster %s", now, now.Cluster)
	}
	if err := i.hold(certs[0], i.trusted.Load().certs, key); err != nil {
		return err
	}
	if save == nil {
		return nil
	}
	text, err := encodeKey(key)
	if err == nil {
		err = save(issued.Certificate, text)
	}
	if err != nil {
		i.logger.WarnContext(ctx, "the node's new certificate could not be written: after a restart it has the one before", "error", err)
	}
	return nil
}
