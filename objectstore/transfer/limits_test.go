package transfer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// gRPC refuses a message that is larger than the store before it has it in memory, so that connections cannot take 2 GiB each.
func TestMessageLargerThanStore(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 4 << 20, ArenaBytes: 4 << 20})})
	client := foreign(t, n.address)
	for _, test := range []struct {
		name  string
		bytes int
		// refused says that gRPC does it, not the service.
		refused bool
	}{{"as large as every server takes", 63 << 20, false}, {"larger", 65 << 20, true}} {
		t.Run(test.name, func(t *testing.T) {
			stream, err := client.DoPut(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(&flight.FlightData{ // The answer says why it failed.
				FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH}, DataHeader: []byte("x"), DataBody: make([]byte, test.bytes),
			})
			_, err = stream.Recv()
			wantKind(t, err, engine.KindExhausted)
			if got := strings.Contains(err.Error(), "larger than max"); got != test.refused {
				t.Errorf("the error is %v; refused by gRPC: %t, want %t", err, got, test.refused)
			}
		})
	}
}

func TestTooManyPuts(t *testing.T) {
	first, proceed := make(chan struct{}), make(chan struct{})
	calls := make(chan struct{}, 1)
	calls <- struct{}{}
	n := newNode(t, "a", transfer.ServiceConfig{
		MaxPuts: 1, Patience: 2 * time.Second,
		DefaultOwner: func(ctx context.Context) (engine.ObjectOwner, error) {
			select {
			case <-calls: // The first put stays in here until it may go on.
				close(first)
				<-proceed
			default:
			}
			return transfer.OwnerOf(ctx)
		},
	})
	client, records := foreign(t, n.address), mixed(t)
	ended := make(chan error, 1)
	own := mixed(t) // Arrow's writer keeps a dictionary in the record, so two goroutines may not write the same one.
	go func() {
		_, err := doPut(t.Context(), client, nil, own)
		ended <- err
	}()
	<-first
	_, err := doPut(t.Context(), client, nil, records)
	wantKind(t, err, engine.KindExhausted)
	var e *engine.Error
	if !errors.As(err, &e) || e.Hint == "" || !strings.Contains(err.Error(), "1 puts") {
		t.Errorf("the error says neither how many there are nor what to do: %v", err)
	}
	close(proceed)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := doPut(t.Context(), client, nil, records); err != nil {
		t.Fatal(err)
	}
}
