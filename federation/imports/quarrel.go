package imports

import (
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// quarrelFree is how many attempts may write for a service though the table has no news of it.
	quarrelFree = 10
	// quarrelFirst and quarrelMax bound the pause after each one more.
	quarrelFirst = time.Second
	quarrelMax   = time.Minute
)

// quarrel counts how often one service was put right in a member. What somebody changes is put right at once; but where
// something keeps changing it, another hub for example, the two would do nothing else any more.
type quarrel struct {
	service *clusterset.Service // as of the last write
	moves   uint64              // of clusters, as of the last write
	writes  int
	last    time.Time
	until   time.Time // nothing is written before
}

// over tells whether the table has news since the quarrel, or it was long ago.
func (q *quarrel) over(service *clusterset.Service, moves uint64) bool {
	return q.service != service || q.moves != moves || time.Since(q.last) > 2*quarrelMax
}

// pause returns how long to leave a service alone.
func (l *lane) pause(key clusterset.Key) time.Duration {
	service, moves := l.r.newest(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	q, found := l.quarrels[key]
	if found && q.over(service, moves) {
		delete(l.quarrels, key)
		return 0
	}
	return max(0, time.Until(q.until))
}

// wrote notes that an attempt wrote something.
func (l *lane) wrote(key clusterset.Key) {
	service, moves := l.r.newest(key)
	l.mu.Lock()
	q := l.quarrels[key]
	if q.over(service, moves) {
		q = quarrel{service: service, moves: moves}
	}
	q.writes, q.last = q.writes+1, time.Now()
	more := q.writes - quarrelFree
	if more > 0 {
		q.until = q.last.Add(min(quarrelFirst<<min(more-1, 10), quarrelMax))
	}
	l.quarrels[key] = q
	l.mu.Unlock()
	if more == 1 {
		l.r.Log.Info("Something else keeps changing what Hansa writes; it is put right less often now. Is the cluster a member of another hub?",
			"cluster", l.name, "service", key.String())
	}
}

// newest returns a service, and the number of the latest change of clusters.
func (r *run) newest(key clusterset.Key) (*clusterset.Service, uint64) {
	snapshot, _ := r.Snapshots.Current()
	if snapshot == nil {
		return nil, r.moves.Load()
	}
	return snapshot.Service(key), r.moves.Load()
}
