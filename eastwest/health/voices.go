package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// fresh tells whether what an agent said last counts.
func (m *Machine) fresh(a *agent, now time.Time) bool {
	return !a.heard.IsZero() && !a.leaving && now.Sub(a.heard) < m.options.Fresh
}

// word is what all that was said comes to for one gateway at this moment. Unknown leaves it as it is. Broken are gateways whose
// own agents complain.
func (m *Machine) word(id Gateway, broken map[Gateway]string, now time.Time) clusterset.Health {
	if broken[id] != "" {
		return clusterset.Down
	}
	v := m.voices(id, now, nil)
	all := v.up + v.down
	switch {
	case 2*v.down > all:
		return clusterset.Down
	case 2*v.up > all:
		return clusterset.Up
	case all > 0, v.blind == 0, m.well(id.Cluster, now), now.Before(m.start.Add(m.options.Settle)):
		return clusterset.Unknown
	}
	return clusterset.Down
}

// why says who said what a word came of.
func (m *Machine) why(id Gateway, word clusterset.Health, broken map[Gateway]string, now time.Time) string {
	if problem := broken[id]; problem != "" {
		return "its own agent says: " + problem
	}
	var said, blind []string
	v := m.voices(id, now, func(cluster string, voice clusterset.Health, cutOff bool) {
		switch {
		case cutOff:
			blind = append(blind, cluster)
		case voice == word:
			said = append(said, cluster)
		}
	})
	switch all := v.up + v.down; {
	case all == 0:
		return seen(blind, len(blind), "do not reach it, and its own agents are gone")
	case word == clusterset.Up:
		return seen(said, all, "reach it")
	default:
		return seen(said, all, "do not reach it")
	}
}

// seen says who said what.
func seen(clusters []string, of int, what string) string {
	return fmt.Sprintf("%d of %d observing clusters %s: %s", len(clusters), of, what, strings.Join(clusters, ", "))
}

// broken returns which gateways do not reach pods of their own cluster, and why.
func (m *Machine) broken(now time.Time) map[Gateway]string {
	broken := map[Gateway]string{}
	for id, a := range m.agents {
		if a.report.Problem != "" && a.connected && a.addr.IsValid() && m.fresh(a, now) {
			at := Gateway{id.Cluster, a.addr}
			broken[at] = max(broken[at], a.report.Problem)
		}
	}
	return broken
}

// well tells whether an agent of a cluster is here and has nothing to complain of.
func (m *Machine) well(cluster string, now time.Time) bool {
	for _, w := range m.witnesses() {
		if w.id.Cluster == cluster && w.connected && m.fresh(w.agent, now) && w.report.Problem == "" {
			return true
		}
	}
	return false
}

// witness is an agent by its name.
type witness struct {
	id Agent
	*agent
}

// witnesses returns all agents, sorted by cluster.
func (m *Machine) witnesses() []witness {
	if m.sorted != nil {
		return m.sorted
	}
	m.sorted = make([]witness, 0, len(m.agents))
	for id, a := range m.agents {
		m.sorted = append(m.sorted, witness{id, a})
	}
	slices.SortFunc(m.sorted, func(a, b witness) int {
		return cmp.Or(cmp.Compare(a.id.Cluster, b.id.Cluster), cmp.Compare(a.id.Node, b.id.Node))
	})
	return m.sorted
}

// voices are how many other clusters say what of a gateway. Blind are those that see nobody else either.
type voices struct{ up, down, blind int }

// voices counts what other clusters say of a gateway. Each, unless it is nil, is told which cluster says what; in the order of
// their ids.
func (m *Machine) voices(id Gateway, now time.Time, each func(cluster string, voice clusterset.Health, cutOff bool)) (v voices) {
	all := m.witnesses()
	for begin := 0; begin < len(all); {
		cluster, end := all[begin].id.Cluster, begin
		for end < len(all) && all[end].id.Cluster == cluster {
			end++
		}
		if cluster != id.Cluster {
			voice, cutOff := m.voice(all[begin:end], id, now)
			v.count(voice, cutOff)
			if each != nil && voice != clusterset.Unknown {
				each(cluster, voice, cutOff)
			}
		}
		begin = end
	}
	return v
}

func (v *voices) count(voice clusterset.Health, cutOff bool) {
	switch {
	case cutOff:
		v.blind++
	case voice == clusterset.Up:
		v.up++
	case voice == clusterset.Down:
		v.down++
	}
}

// voice returns what the agents of one cluster say of a gateway together, and whether all that say anything are cut off.
func (m *Machine) voice(agents []witness, id Gateway, now time.Time) (voice clusterset.Health, cutOff bool) {
	up, down, blind := 0, 0, 0
	for _, w := range agents {
		if !m.fresh(w.agent, now) {
			continue
		}
		switch word := w.report.Sights[id]; {
		case word == clusterset.Unknown:
		case w.blind:
			blind++
		case word == clusterset.Up:
			up++
		default:
			down++
		}
	}
	switch {
	case up > down:
		return clusterset.Up, false
	case down > up:
		return clusterset.Down, false
	case up == 0 && blind > 0:
		return clusterset.Down, true
	}
	return clusterset.Unknown, false
}
