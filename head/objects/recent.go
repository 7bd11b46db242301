package objects

import (
	"slices"
	"time"
)

// recent is a set that forgets what is old or too much.
type recent[K comparable] struct {
	max int
	at  map[K]time.Time
	// order holds the keys by their times; an entry counts only if at agrees.
	order []remembered[K]
	// forget hears of what is forgotten by itself. Nil means nobody does.
	forget func(K)
}

type remembered[K comparable] struct {
	key K
	at  time.Time
}

func newRecent[K comparable](limit int) *recent[K] {
	return &recent[K]{max: limit, at: map[K]time.Time{}}
}

// add remembers a key as of now.
func (r *recent[K]) add(now time.Time, key K) {
	r.at[key] = now
	r.order = append(r.order, remembered[K]{key, now})
	if len(r.at) > r.max {
		r.prune(time.Time{})
	}
	if len(r.order) > 2*len(r.at)+64 {
		r.order = slices.DeleteFunc(r.order, func(entry remembered[K]) bool { return !r.valid(entry) })
	}
}

func (r *recent[K]) has(key K) bool {
	_, ok := r.at[key]
	return ok
}

func (r *recent[K]) remove(key K) { delete(r.at, key) }

// keys returns what is remembered, the oldest first.
func (r *recent[K]) keys() []K {
	keys := make([]K, 0, len(r.at))
	for _, entry := range r.order {
		if r.valid(entry) {
			keys = append(keys, entry.key)
		}
	}
	return keys
}

func (r *recent[K]) valid(entry remembered[K]) bool {
	at, ok := r.at[entry.key]
	return ok && at.Equal(entry.at)
}

// prune forgets what is from before old, and the oldest of what is too much.
func (r *recent[K]) prune(old time.Time) {
	for len(r.order) > 0 {
		entry := r.order[0]
		valid := r.valid(entry)
		if valid && !entry.at.Before(old) && len(r.at) <= r.max {
			return
		}
		r.order = r.order[1:]
		if valid {
			delete(r.at, entry.key)
			if r.forget != nil {
				r.forget(entry.key)
			}
		}
	}
}
