package oidc

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

const (
	// maxKeysBytes bounds what is read of keys, and readWithin how long that may take.
	maxKeysBytes = 1 << 20
	readWithin   = 10 * time.Second
	opKeys       = "read keys"
)

// client follows no redirections: where keys come from is written in the configuration.
var client = &http.Client{
	Timeout:       readWithin,
	Transport:     transport(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// transport connects to no metadata service, to which what an issuer says of itself could lead.
func transport() http.RoundTripper {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Control: blob.RefuseMetadata}).DialContext, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: readWithin,
	}
}

// read reads the keys, and keeps those that there were if it fails.
func (o *provider) read(ctx context.Context) error {
	keys, err := o.load(ctx)
	if err != nil {
		return engine.WrapError(opKeys, o.config.Issuer, err)
	}
	o.keys.Store(keys)
	return nil
}

func (o *provider) load(ctx context.Context) (*jose.JSONWebKeySet, error) {
	at := o.config.Keys
	if at == "" {
		text, err := get(ctx, strings.TrimSuffix(o.config.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		var found struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(text, &found); err != nil {
			return nil, engine.Errorf(engine.KindCorrupt, opKeys, "", "the issuer's configuration is no JSON: %w", err)
		}
		if found.Issuer != o.config.Issuer {
			return nil, engine.Errorf(engine.KindCorrupt, opKeys, "", "the configuration found there is of the issuer %q", found.Issuer)
		}
		if err := checkURL(found.Keys); err != nil {
			return nil, err
		}
		at = found.Keys
	}
	var text []byte
	var err error
	if strings.Contains(at, "://") {
		text, err = get(ctx, at)
	} else {
		text, err = readFile(at)
	}
	if err != nil {
		return nil, err
	}
	return parseKeys(text)
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opKeys, path, "%w", err)
	}
	defer func() { _ = file.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(file, maxKeysBytes))
	return text, engine.WrapError(opKeys, path, err)
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opKeys, url, "%w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, engine.Errorf(engine.KindUnavailable, opKeys, url, "%w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, engine.Errorf(engine.KindUnavailable, opKeys, url, "status %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeysBytes))
	if err != nil {
		return nil, engine.Errorf(engine.KindUnavailable, opKeys, url, "%w", err)
	}
	return text, nil
}

// parseKeys reads a JWK set, and leaves out what is no public key for signatures.
func parseKeys(text []byte) (*jose.JSONWebKeySet, error) {
	var found jose.JSONWebKeySet
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, opKeys, "", "no JWK set: %w", err)
	}
	kept := &jose.JSONWebKeySet{}
	for _, key := range found.Keys {
		if key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			kept.Keys = append(kept.Keys, key)
		}
	}
	if len(kept.Keys) == 0 {
		return nil, engine.Errorf(engine.KindCorrupt, opKeys, "", "the JWK set has no public key for signatures")
	}
	return kept, nil
}
