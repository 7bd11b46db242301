package blob_test

import (
	"net"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

func TestRefuseMetadata(t *testing.T) {
	for address, refused := range map[string]bool{
		"169.254.169.254:80": true, "[::ffff:169.254.169.254]:80": true, "[fe80::1%eth0]:80": true, "[fd00:ec2::254]:80": true, "100.100.100.200:80": true,
		"[fd00:ec2::23]:80": true, "[fd20:ce::254]:80": true, "[64:ff9b::a9fe:a9fe]:80": true, "[64:ff9b::a00:7]:80": false, "[fd20:ce::253]:80": false,
		"127.0.0.1:9000": false, "[::1]:9000": false, "10.0.0.7:443": false, "[2001:db8::1]:443": false,
	} {
		err := blob.RefuseMetadata("tcp", address, nil)
		if refused != (err != nil) || refused && engine.KindOf(err) != engine.KindPermission {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := blob.RefuseMetadata("unix", "/run/postgresql/.s.PGSQL.5432", nil); err != nil {
		t.Error(err)
	}
	// A dialer asks about what a name has led to.
	dialer := net.Dialer{Control: blob.RefuseMetadata}
	conn, err := dialer.DialContext(t.Context(), "tcp", "169.254.169.254:80")
	if err == nil {
		_ = conn.Close()
	}
	if engine.KindOf(err) != engine.KindPermission {
		t.Errorf("%v", err)
	}
}
