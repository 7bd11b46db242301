package state_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/f708428e/engine/head/state"
)

// BenchmarkPropose makes jobs durable, by one caller and by many at a time.
func BenchmarkPropose(b *testing.B) {
	for _, proposers := range []int{1, 64} {
		b.Run(fmt.Sprint(proposers), func(b *testing.B) {
			store, err := state.Open(state.Config{Dir: b.TempDir(), NewClusterID: "c"})
			if err != nil {
				b.Fatal(err)
			}
			<-store.Terms()
			var next atomic.Int64
			b.SetParallelism(proposers)
			b.ResetTimer()
			done := make(chan error)
			for range proposers {
				go func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							done <- nil
							return
						}
						if err := store.Propose(context.Background(), accepted(fmt.Sprint("job-", i), "")); err != nil {
							done <- err
							return
						}
					}
				}()
			}
			for range proposers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "proposals/s")
			if err := store.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkOpen starts a head's store until it leads: with a new folder, and with one that holds jobs.
func BenchmarkOpen(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			store, err := state.Open(state.Config{Dir: b.TempDir(), NewClusterID: "c"})
			if err != nil {
				b.Fatal(err)
			}
			<-store.Terms()
			b.StopTimer()
			if err := store.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			store, err := state.Open(state.Config{Dir: dir, NewClusterID: "c"})
			if err != nil {
				b.Fatal(err)
			}
			<-store.Terms()
			b.StopTimer()
			if err := store.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}
