package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// change is one change of a resource on its way to every observer (a simulated proxy, or a tapped real one).
// The marker is the highest port of the assignment; markers of one resource only grow, so that an observer that
// was sent a later change (the server may skip some) has got the earlier ones too.
//
// Where an endpoint goes, the highest port falls. `goes` is then that endpoint's port, which no other of the resource
// reaches, and an assignment without it stands for the marker. Such a change must be alone on its way.
type change struct {
	resource string
	marker   int
	goes     int
	sent     time.Time

	missing     int
	first, last time.Time
	done        chan struct{}
}

// tracker knows which observer has which marker of which resource.
type tracker struct {
	mu        sync.Mutex
	observers map[int]map[string]int
	open      map[string][]*change
	pending   atomic.Int64 // changes in open, for those who do not want the lock
}

func newTracker() *tracker {
	return &tracker{observers: map[int]map[string]int{}, open: map[string][]*change{}}
}

func (t *tracker) join(observer int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.observers[observer] == nil {
		t.observers[observer] = map[string]int{}
	}
}

// leave forgets an observer; changes that it has not got no longer wait for it.
func (t *tracker) leave(observer int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.observers[observer]
	if seen == nil {
		return
	}
	delete(t.observers, observer)
	for name, changes := range t.open {
		for _, c := range slices.Clone(changes) {
			if seen[name] < c.marker {
				t.got(c, time.Now())
			}
		}
	}
}

func (t *tracker) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.observers) == 0
}

// expect starts the clock of a change; it counts from before the server is told. `goes` is 0 where no endpoint goes.
func (t *tracker) expect(resource string, marker, goes int) *change {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &change{
		resource: resource, marker: marker, goes: goes, sent: time.Now(),
		missing: len(t.observers), done: make(chan struct{}),
	}
	t.open[resource] = append(t.open[resource], c)
	t.pending.Add(1)
	return c
}

// expecting tells whether any change is on its way; while none is, markers are not worth reading.
func (t *tracker) expecting() bool { return t.pending.Load() > 0 }

// saw tells that an observer now has a marker of a resource.
func (t *tracker) saw(observer int, resource []byte, marker int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changes := t.open[string(resource)]
	seen := t.observers[observer]
	if len(changes) == 0 || seen == nil {
		return
	}
	name := changes[0].resource
	before := seen[name]
	if last := changes[len(changes)-1]; marker < last.goes {
		marker = last.marker
	}
	if marker <= before {
		return
	}
	seen[name] = marker
	for _, c := range slices.Clone(changes) {
		if before < c.marker && c.marker <= marker {
			t.got(c, at)
		}
	}
}

// got counts one observer of a change off; the lock is held.
func (t *tracker) got(c *change, at time.Time) {
	if c.first.IsZero() {
		c.first = at
	}
	c.last = at
	c.missing--
	if c.missing > 0 {
		return
	}
	close(c.done)
	t.pending.Add(-1)
	rest := slices.DeleteFunc(t.open[c.resource], func(other *change) bool { return other == c })
	if len(rest) == 0 {
		delete(t.open, c.resource)
	} else {
		t.open[c.resource] = rest
	}
}

// oldest is the age of the oldest change that some observer has not got.
func (t *tracker) oldest(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	age := time.Duration(0)
	for _, changes := range t.open {
		for _, c := range changes {
			age = max(age, now.Sub(c.sent))
		}
	}
	return age
}

// abandon closes the book on changes that did not arrive; it returns how many there were.
func (t *tracker) abandon() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	lost := 0
	for _, changes := range t.open {
		lost += len(changes)
	}
	t.open = map[string][]*change{}
	t.pending.Store(0)
	return lost
}
