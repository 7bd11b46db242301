package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/node"
)

func TestIsShared(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:10001": false, "127.0.0.1": false, "[::1]:10001": false, "localhost:1": false, "0.0.0.0": true, "0.0.0.0:1": true, "[::]:1": true, "192.0.2.1:1": true,
	} {
		if got := isShared(t.Context(), address); got != want {
			t.Errorf("%s: got %v", address, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := net.DefaultResolver.LookupIPAddr(ctx, "no-such-host.invalid"); err != nil && !isShared(ctx, "no-such-host.invalid:1") {
		t.Error("a name that cannot be looked up is nobody else's")
	}
}

func TestGuardFlags(t *testing.T) {
	folder := t.TempDir()
	good := guardFlags{sandbox: "require", loadTimeout: "90s", loadMemory: "2GiB", allowPaths: []string{folder}, allowBuckets: []string{"s3://data"}}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	var w node.WorkerConfig
	if err := good.apply(&w); err != nil || w.Sandbox != "require" || w.ModelLoadTimeout.Seconds() != 90 || w.ModelLoadMemoryBytes != 2<<30 {
		t.Errorf("got %+v, %v", w, err)
	}
	if got := strings.Join(good.arguments(), " "); got != "--sandbox require --allow-path "+folder+" --allow-s3 s3://data --model-load-timeout 90s --model-load-memory 2GiB" {
		t.Errorf("the node in the background gets %s", got)
	}
	for name, bad := range map[string]guardFlags{
		"sandbox": {sandbox: "maybe"}, "timeout": {sandbox: "auto", loadTimeout: "soon"}, "memory": {sandbox: "auto", loadMemory: "-1"},
		"bucket": {sandbox: "auto", allowBuckets: []string{"bucket"}},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%s: %+v is taken", name, bad)
		}
	}
}

func TestPlacesOfNode(t *testing.T) {
	data := t.TempDir()
	a := newApp()
	f := startFlags{head: true, host: "127.0.0.1"}
	if f.shared(t.Context(), a, data) {
		t.Error("a head on loopback serves others")
	}
	for name, f := range map[string]startFlags{
		"address": {head: true, host: "0.0.0.0"}, "secure": {head: true, host: "127.0.0.1", links: linkFlags{secure: true}},
		"tokens": {head: true, host: "127.0.0.1", requireToken: true}, "insecure": {head: true, host: "127.0.0.1", links: linkFlags{insecure: true}},
	} {
		if !f.shared(t.Context(), a, data) {
			t.Errorf("%s: it serves nobody else", name)
		}
	}
	for _, shared := range []bool{false, true} {
		p, err := f.places(a, shared, data)
		if err != nil {
			t.Fatal(err)
		}
		for path, refused := range map[string]bool{"/etc/passwd": shared, filepath.Join(data, "secrets.key"): shared, filepath.Join(data, modelsFolder, "m.onnx"): false, filepath.Join(t.TempDir(), "x"): false} {
			if err := p.Read(path); (err != nil) != refused {
				t.Errorf("shared %v, %s: %v", shared, path, err)
			}
		}
	}
}
