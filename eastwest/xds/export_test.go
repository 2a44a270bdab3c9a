package xds

import (
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Follower keeps the content of a view without a server.
type Follower struct {
	filling *filling
	held    map[ads.Key]string
}

// NewFollower begins with nothing.
func NewFollower(s *Source, client translate.Client) *Follower {
	return &Follower{newFilling(s, client), map[ads.Key]string{}}
}

// Filling does for the zone of a view what Fill does when it begins, and in the end what it does then.
func (s *Source) Filling(view string) (end func()) {
	who, err := parse(view)
	if err != nil {
		panic(err)
	}
	s.fill(who)
	return func() { s.forget(who) }
}

// Step goes to a snapshot, and returns how many resources were translated.
func (f *Follower) Step(snapshot *clusterset.Snapshot) int {
	update, _ := f.filling.step(snapshot)
	if update.Whole {
		clear(f.held)
	}
	for _, key := range update.Removed {
		delete(f.held, key)
	}
	for _, r := range update.Changed {
		f.held[r.Key] = r.Version()
	}
	return len(update.Changed)
}

// Versions returns the content: versions by name.
func (f *Follower) Versions() map[ads.Key]string { return f.held }

// Counted returns how many resources the view counts.
func (f *Follower) Counted() int { return f.filling.size() }
