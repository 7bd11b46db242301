package pki

import (
	"net"
	"testing"
)

func TestSourceOf(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1:1", "10.0.0.1:2", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"10.0.0.1:1", "[::ffff:10.0.0.1]:1", true},
		{"[fd00::1]:1", "[fd00::ffff:ffff:ffff:ffff]:2", true},
		{"[fd00::1]:1", "[fd00:0:0:1::1]:1", false},
		{"[fe80::1%lo]:1", "[fe80::2]:1", true},
	} {
		a, errA := net.ResolveTCPAddr("tcp", test.a)
		b, errB := net.ResolveTCPAddr("tcp", test.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if same := sourceOf(a) == sourceOf(b); same != test.same || !sourceOf(a).IsValid() {
			t.Errorf("%s and %s: the same is %v", test.a, test.b, same)
		}
	}
	if pipe := (&net.UnixAddr{Name: "pipe"}); sourceOf(pipe).IsValid() {
		t.Errorf("%s has a source", pipe)
	}
}

// TestCrowd has greedy sources take all that they get, and sees that one more gets in as long as they are fewer than there is room.
func TestCrowd(t *testing.T) {
	const most = 64
	for greedy := range most {
		c := newCrowd(most)
		for again := true; again; {
			again = false
			for i := range greedy {
				again = c.enter(sourceOf(&net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i))})) || again
			}
		}
		late := sourceOf(&net.TCPAddr{IP: net.IPv4(10, 0, 1, 0)})
		if !c.enter(late) || c.all > most {
			t.Fatalf("%d sources hold %d of %d, and nobody else gets in", greedy, c.all, most)
		}
		if greedy == 1 && c.all != most/2+1 {
			t.Errorf("one source has %d of %d", c.all-1, most)
		}
		c.leave(late)
		if _, there := c.of[late]; there {
			t.Fatal("one that has left is still counted")
		}
	}
}
