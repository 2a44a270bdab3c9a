package clusterset

import "sync/atomic"

// Latest hands the newest snapshot from the goroutine that publishes to all that read. A reader that is slow misses
// snapshots in between, never the last one.
type Latest struct{ state atomic.Pointer[latest] }

// latest is a snapshot and what closes when there is a newer one.
type latest struct {
	snapshot *Snapshot
	replaced chan struct{}
}

// NewLatest starts with a snapshot.
func NewLatest(snapshot *Snapshot) *Latest {
	l := &Latest{}
	l.state.Store(&latest{snapshot, make(chan struct{})})
	return l
}

// Publish replaces the snapshot and wakes those who wait. A snapshot that is the current one already wakes nobody. It is for
// one goroutine.
func (l *Latest) Publish(snapshot *Snapshot) {
	old := l.state.Load()
	if old.snapshot == snapshot {
		return
	}
	l.state.Store(&latest{snapshot, make(chan struct{})})
	close(old.replaced)
}

// Current returns the newest snapshot, and a channel that is closed when there is a newer one.
func (l *Latest) Current() (*Snapshot, <-chan struct{}) {
	current := l.state.Load()
	return current.snapshot, current.replaced
}
