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

// said is what was said of a gateway, as it counts at this moment.
type said struct {
	up, down []string // clusters whose voice says so, sorted
	blind    []string // clusters that say Down, and see nobody else either
	problem  string   // what its own agent complains of
	told     bool     // an agent says that this is its gateway; else only the table does
	well     bool     // such an agent is here and has nothing to complain of
	count    tally    // of the cluster that is being listened to
}

// tally counts what agents of one cluster say of a gateway.
type tally struct{ up, down, blind int }

// word is what an agent says of a gateway that is known.
type word struct {
	about *gateway
	clusterset.Health
}

// learn brings the gateways that there are up to date.
func (m *Machine) learn(now time.Time) {
	known := m.known()
	before := len(m.gateways)
	maps.DeleteFunc(m.gateways, func(g Gateway, _ *gateway) bool { return !known[g] })
	changed := len(m.gateways) < before
	for g := range known {
		if m.gateways[g] == nil {
			m.gateways[g] = &gateway{Verdict: Verdict{Since: now, Reason: "nobody has said anything yet"}}
			changed = true
		}
	}
	if changed {
		m.lineup++
	}
}

// known returns the gateways that there are.
func (m *Machine) known() map[Gateway]bool {
	known := maps.Clone(m.expected)
	for _, leaving := range []bool{true, false} { // an address that moved to another node is there
		for id, a := range m.agents {
			if g := (Gateway{id.Cluster, a.addr}); a.addr.IsValid() && a.leaving == leaving {
				known[g] = !leaving
			}
		}
	}
	maps.DeleteFunc(known, func(_ Gateway, there bool) bool { return !there })
	return known
}

// fresh tells whether what an agent said last counts.
func (m *Machine) fresh(a *agent, now time.Time) bool {
	return !a.heard.IsZero() && !a.leaving && now.Sub(a.heard) < m.options.Fresh
}

// listen takes together what all agents say. It costs a step for each word that counts.
func (m *Machine) listen(now time.Time) {
	clear(m.well)
	for _, g := range m.gateways {
		g.said = said{up: g.up[:0], down: g.down[:0], blind: g.blind[:0]}
	}
	all := m.witnesses()
	for begin := 0; begin < len(all); {
		cluster, end := all[begin].id.Cluster, begin
		var about []*gateway
		for ; end < len(all) && all[end].id.Cluster == cluster; end++ {
			w := all[end]
			m.ofItself(w, now)
			if m.fresh(w.agent, now) {
				about = m.ofOthers(w, about)
			}
		}
		for _, g := range about {
			g.voice(cluster)
		}
		begin = end
	}
}

// ofItself notes what an agent's being here, and what it complains of, says of its own gateway.
func (m *Machine) ofItself(w witness, now time.Time) {
	g := m.gateways[Gateway{w.id.Cluster, w.addr}] // nil: others do not reach it, or it leaves
	if g != nil && !w.leaving {
		g.told = true
	}
	switch here := w.connected && m.fresh(w.agent, now); {
	case !here:
	case w.report.Problem == "":
		m.well[w.id.Cluster] = true
		if g != nil {
			g.well = true
		}
	case g != nil:
		g.problem = max(g.problem, w.report.Problem)
	}
}

// ofOthers counts an agent's words, and returns about with the gateways added of which its cluster had said nothing so far.
func (m *Machine) ofOthers(w witness, about []*gateway) []*gateway {
	if w.lineup != m.lineup {
		m.understand(w)
	}
	for _, said := range w.words {
		count := &said.about.count
		if *count == (tally{}) {
			about = append(about, said.about)
		}
		switch {
		case w.blind:
			count.blind++
		case said.Health == clusterset.Up:
			count.up++
		default:
			count.down++
		}
	}
	return about
}

// understand takes out of an agent's report what it says of gateways of other clusters that are known. What it says of others
// counts for nothing: else it could invent some to seem not to be cut off.
func (m *Machine) understand(w witness) {
	sees := false
	w.words = w.words[:0]
	for id, h := range w.report.Sights {
		g := m.gateways[id]
		if g == nil || id.Cluster == w.id.Cluster || h == clusterset.Unknown {
			continue
		}
		w.words = append(w.words, word{g, h})
		sees = sees || h == clusterset.Up
	}
	w.blind, w.lineup = !sees, m.lineup
}

// voice adds what the agents of one cluster say together, and begins a new count. Those that are cut off are asked only where
// all are.
func (g *gateway) voice(cluster string) {
	switch c := g.count; {
	case c.up > c.down:
		g.up = append(g.up, cluster)
	case c.down > c.up:
		g.down = append(g.down, cluster)
	case c.up == 0 && c.blind > 0:
		g.blind = append(g.blind, cluster)
	}
	g.count = tally{}
}

// word is what all that was said comes to for one gateway at this moment. Unknown leaves it as it is.
func (m *Machine) word(cluster string, g *gateway, now time.Time) clusterset.Health {
	starting := now.Before(m.start.Add(m.options.Settle))
	all := len(g.up) + len(g.down)
	switch {
	case g.problem != "":
		return clusterset.Down
	case all == 1 && len(g.down) == 1 && (starting || m.contradicted(cluster, g)):
		return clusterset.Unknown
	case 2*len(g.down) > all:
		return clusterset.Down
	case 2*len(g.up) > all:
		return clusterset.Up
	case all > 0, len(g.blind) == 0, m.well[cluster], starting:
		return clusterset.Unknown
	}
	return clusterset.Down
}

// contradicted tells whether somebody stands for a gateway that one other cluster alone calls Down: its own agent; where only
// the table has the gateway, any agent of its cluster.
func (m *Machine) contradicted(cluster string, g *gateway) bool {
	return g.well || !g.told && m.well[cluster]
}

// why says who said what a word came of.
func (g *gateway) why(word clusterset.Health) string {
	switch all := len(g.up) + len(g.down); {
	case g.problem != "":
		return "its own agent says: " + g.problem
	case all == 0:
		return seen(g.blind, len(g.blind), "do not reach it, and its own agents are gone")
	case word == clusterset.Up:
		return seen(g.up, all, "reach it")
	default:
		return seen(g.down, all, "do not reach it")
	}
}

// seen says who said what.
func seen(clusters []string, of int, what string) string {
	return fmt.Sprintf("%d of %d observing clusters %s: %s", len(clusters), of, what, strings.Join(clusters, ", "))
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
