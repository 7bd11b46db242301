package main

import (
	"strings"
	"testing"
)

// TestFlightAddress has people told how a client of Arrow Flight connects: what it is given, it takes.
func TestFlightAddress(t *testing.T) {
	for secure, want := range map[bool]string{false: "  flight    grpc://127.0.0.1:10002\n", true: "  flight    grpc+tls://127.0.0.1:10002\n"} {
		c := newConsole(t, nil)
		c.app.output = "table"
		if err := c.app.printStarted(startFlags{}, startView{Address: "127.0.0.1:10001", Flight: "127.0.0.1:10002", TLS: secure}); err != nil || !strings.Contains(c.stdout.String(), want) {
			t.Errorf("TLS %v: %v, %q is not in\n%s", secure, err, want, c.stdout)
		}
	}
	c, _ := newObjectConsole(t, wineObject())
	c.run(t, 0, "get", "object", testObject, "--tls-fingerprint", strings.Repeat("ab", 32))
	if want := "2 pins, grpc+tls://127.0.0.1:10002\n"; !strings.Contains(c.stdout.String(), want) {
		t.Errorf("%q is not in\n%s", want, c.stdout)
	}
}
