package exports

import (
	"context"
	"maps"
	"slices"
	"time"
)

// keepEvery is the least time between two looks at what changed: a shard is written once in that time at most.
const keepEvery = 2 * time.Second

// keepAgain is after how many rounds a new leader reads the archive once more: by then nobody else believes that it leads.
const keepAgain = 30

// Keeper stores what the Watcher knows in the archive. It runs on the leader only.
type Keeper struct {
	Watcher *Watcher
	Archive Archive

	stored map[string]stored
	told   map[string]string // the error that was logged last of a member
}

// stored is what was stored of one member last.
type stored struct {
	version uint64
	id      string
	at      time.Time
}

// NeedLeaderElection says that the Keeper runs on the leader only.
func (k *Keeper) NeedLeaderElection() bool { return true }

// Start keeps the archive up to date until ctx ends.
func (k *Keeper) Start(ctx context.Context) error {
	select {
	case <-k.Watcher.Ready():
	case <-ctx.Done():
		return nil
	}
	k.told = map[string]string{}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for round := 0; ; round++ {
		// Another leader may have written since this replica read it, or may still write when it was stopped in the middle.
		if round == 0 || round == keepAgain {
			k.reload(ctx)
		}
		k.keep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reload reads what really stands in the archive, and has everything compared with it.
func (k *Keeper) reload(ctx context.Context) {
	k.stored = map[string]stored{}
	if _, err := k.Archive.Load(ctx); err != nil && ctx.Err() == nil {
		k.Watcher.log.Error(err, "Reading the archive again failed")
	}
}

// keep stores what changed. A member that is not in step keeps the time of when it was.
func (k *Keeper) keep(ctx context.Context) {
	members, whole := k.Watcher.registered()
	if whole {
		if err := k.Archive.Retain(ctx, members); err != nil {
			k.Watcher.log.Error(err, "Removing what was known of members that left failed; it is tried again")
		}
	}
	for _, member := range members {
		last := k.stored[member]
		record, version, found := k.Watcher.record(member, last)
		if !found {
			continue
		}
		if err := k.Archive.Store(ctx, &record); err != nil {
			if ctx.Err() == nil && k.told[member] != err.Error() {
				k.told[member] = err.Error() // once, not at every round
				k.Watcher.log.Error(err, "Keeping what is known of a member failed; it is tried again", "cluster", member)
			}
			continue
		}
		delete(k.told, member)
		k.stored[member] = stored{version, record.ID, record.Time}
	}
}

// registered returns the names of all members, and whether the list is whole.
func (w *Watcher) registered() ([]string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.table.sites)), w.table.whole
}

// record returns what is known of a member, unless it is what was stored last.
func (w *Watcher) record(member string, last stored) (Record, uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.table.sites[member]
	if s == nil || s.id == "" || s.record == nil && !s.complete() {
		return Record{}, 0, false // nothing, or only a part, was ever read
	}
	at := s.known
	if at.IsZero() {
		at = w.now()
	}
	if last.id == s.id && last.version == s.version && at.Sub(last.at) < 5*knownTimeAccuracy {
		return Record{}, 0, false
	}
	known := w.table.builder.Known(s.id)
	// The lists are shared with snapshots, which nobody modifies; the maps are this caller's.
	return Record{Member: member, UID: s.member.UID, ID: s.id, Time: at, Known: known}, s.version, true
}
