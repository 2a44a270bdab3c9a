package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// fresh tells whether what an agent said last counts.
func (m *Machine) fresh(a *agent, now time.Time) bool {
	return !a.heard.IsZero() && !a.leaving && now.Sub(a.heard) < m.options.Fresh
}

// word is what all that was said comes to for one gateway at this moment, and why. Unknown leaves it as it is.
func (m *Machine) word(id Gateway, now time.Time) (clusterset.Health, string) {
	if problem := m.broken(id, now); problem != "" {
		return clusterset.Down, "its own agent says: " + problem
	}
	sound, blind := m.voices(id, now)
	up, down := sound[clusterset.Up], sound[clusterset.Down]
	all := len(up) + len(down)
	switch {
	case 2*len(down) > all:
		return clusterset.Down, seen(down, all, "do not reach it")
	case 2*len(up) > all:
		return clusterset.Up, seen(up, all, "reach it")
	case all > 0, len(blind) == 0, m.well(id.Cluster, now), now.Before(m.start.Add(m.options.Settle)):
		return clusterset.Unknown, ""
	}
	return clusterset.Down, seen(blind, len(blind), "do not reach it, and its own agents are gone")
}

// seen says who said what.
func seen(clusters []string, of int, what string) string {
	return fmt.Sprintf("%d of %d observing clusters %s: %s", len(clusters), of, what, strings.Join(clusters, ", "))
}

// broken returns why a gateway does not reach pods of its own cluster; empty if it does, or nobody says so.
func (m *Machine) broken(id Gateway, now time.Time) string {
	problem := ""
	for who, a := range m.agents {
		if who.Cluster == id.Cluster && a.addr == id.Addr && a.connected && m.fresh(a, now) {
			problem = max(problem, a.report.Problem)
		}
	}
	return problem
}

// well tells whether an agent of a cluster is here and has nothing to complain of.
func (m *Machine) well(cluster string, now time.Time) bool {
	for who, a := range m.agents {
		if who.Cluster == cluster && a.connected && m.fresh(a, now) && a.report.Problem == "" {
			return true
		}
	}
	return false
}

// voices returns which other clusters say Up and Down of a gateway, and which say Down but see nobody else either. Sorted.
func (m *Machine) voices(id Gateway, now time.Time) (sound map[clusterset.Health][]string, blind []string) {
	type ballot struct{ up, down, blind int }
	ballots := map[string]*ballot{}
	for who, a := range m.agents {
		word := a.report.Sights[id]
		if who.Cluster == id.Cluster || word == clusterset.Unknown || !m.fresh(a, now) {
			continue
		}
		b := ballots[who.Cluster]
		if b == nil {
			b = &ballot{}
			ballots[who.Cluster] = b
		}
		switch {
		case a.blind:
			b.blind++
		case word == clusterset.Up:
			b.up++
		default:
			b.down++
		}
	}
	sound = map[clusterset.Health][]string{}
	for _, cluster := range slices.Sorted(maps.Keys(ballots)) {
		b := ballots[cluster]
		switch cmp.Compare(b.up, b.down) {
		case 1:
			sound[clusterset.Up] = append(sound[clusterset.Up], cluster)
		case -1:
			sound[clusterset.Down] = append(sound[clusterset.Down], cluster)
		default:
			if b.up == 0 {
				blind = append(blind, cluster)
			}
		}
	}
	return sound, blind
}
