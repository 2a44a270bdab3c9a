package health

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Options are how long what has to last. Zero fields have the defaults of DefaultOptions.
type Options struct {
	Down     time.Duration // that observers agree on Down, until a gateway is
	Up       time.Duration // that observers agree on Up, until a gateway is again
	MaxUp    time.Duration // the same, however much a gateway flaps
	Flapping time.Duration // that a time of being Down counts for making Up longer
	Fresh    time.Duration // that a report counts
	Settle   time.Duration // from the start, until it counts that an agent is not there
	Forget   time.Duration // that a gateway is known whose agent is gone while another of its cluster is there
}

// DefaultOptions suit agents that report every second.
func DefaultOptions() Options {
	return Options{
		Down: 500 * time.Millisecond, Up: time.Second, MaxUp: 30 * time.Second, Flapping: time.Minute,
		Fresh: 2500 * time.Millisecond, Settle: 5 * time.Second, Forget: 10 * time.Minute,
	}
}

// OrDefault fills in what is zero.
func (o Options) OrDefault() Options {
	d := DefaultOptions()
	return Options{
		Down: cmp.Or(o.Down, d.Down), Up: cmp.Or(o.Up, d.Up), MaxUp: cmp.Or(o.MaxUp, d.MaxUp), Flapping: cmp.Or(o.Flapping, d.Flapping),
		Fresh: cmp.Or(o.Fresh, d.Fresh), Settle: cmp.Or(o.Settle, d.Settle), Forget: cmp.Or(o.Forget, d.Forget),
	}
}

// MaxAgents is how many agents of one cluster are known, connected or not: as many as the table takes gateways of one. What a
// member can make a machine keep, and do in each Step, is bounded by it, whatever names it gives to nodes.
const MaxAgents = 64

// Agent is that of a gateway: an observer.
type Agent struct {
	Cluster, Node string
}

// Gateway is one gateway by the address of its tunnels.
type Gateway struct {
	Cluster string
	Addr    netip.AddrPort
}

// Report is all that an agent sees.
type Report struct {
	// Problem says why its own gateway does not reach pods of its own cluster; empty: it does.
	Problem string
	// Sights are what it sees of gateways of other clusters.
	Sights map[Gateway]clusterset.Health
}

// Verdict is what was concluded, since when, and why: words for people.
type Verdict struct {
	Health clusterset.Health
	Since  time.Time
	Reason string
}

// Machine holds what was said, and what was concluded of it. It is for one goroutine at a time. Times passed to it must not
// go back.
type Machine struct {
	options  Options
	start    time.Time
	agents   map[Agent]*agent
	count    map[string]int // of agents, by cluster
	sorted   []witness      // agents; anew when there are more or fewer
	expected map[Gateway]bool
	gateways map[Gateway]*gateway
	lineup   int // how often gateways came or went
	clusters map[string]*cluster
	well     map[string]bool // clusters of which an agent is here and has nothing to complain of
}

type agent struct {
	addr      netip.AddrPort // of its gateway; zero: others do not reach it
	connected bool
	leaving   bool
	moved     time.Time // when connected last changed
	heard     time.Time // the last report; zero: none
	report    Report
	words     []word // of the report: on gateways of other clusters that are known
	lineup    int    // of which words are; 0: they are to be taken anew
	blind     bool   // all words are Down
}

// gateway is the verdict on one, and what stands against it.
type gateway struct {
	Verdict
	said
	against clusterset.Health // what observers agree on instead; Unknown: nothing
	begun   time.Time         // since when they do
	downs   []time.Time       // when it became Down, while that counts for flapping
}

type cluster struct {
	Verdict
	held bool // it would be Down if it were not the last
}

// New returns a machine that knows nobody.
func New(o Options, now time.Time) *Machine {
	return &Machine{
		options: o.OrDefault(), start: now, agents: map[Agent]*agent{}, count: map[string]int{}, expected: map[Gateway]bool{},
		gateways: map[Gateway]*gateway{}, lineup: 1, clusters: map[string]*cluster{}, well: map[string]bool{},
	}
}

// Expect says which gateways the hub's table has, whatever agents there are.
func (m *Machine) Expect(gateways []Gateway) {
	m.expected = make(map[Gateway]bool, len(gateways))
	for _, g := range gateways {
		m.expected[g] = true
	}
}

// Hello notes that an agent is connected, and where others reach its gateway; zero: they do not. False tells that nothing
// was noted, since MaxAgents others of its cluster are connected. For a new one in the place of those, the one is forgotten
// that has been gone for longest; first those that said goodbye.
func (m *Machine) Hello(id Agent, addr netip.AddrPort, now time.Time) bool {
	a := m.agents[id]
	if a == nil {
		if !m.room(id.Cluster) {
			return false
		}
		a = &agent{}
		m.agents[id], m.sorted = a, nil
		m.count[id.Cluster]++
	}
	a.addr, a.connected, a.leaving, a.moved = addr, true, false, now
	return true
}

// Report notes what a connected agent sees. It tells whether that may change a conclusion at once: else the next Step may
// wait until it is due.
func (m *Machine) Report(id Agent, r Report, now time.Time) (changed bool) {
	a := m.agents[id]
	if a == nil || !a.connected {
		return false
	}
	changed = !m.fresh(a, now) || a.report.Problem != r.Problem || !maps.Equal(a.report.Sights, r.Sights)
	a.heard, a.report, a.lineup = now, r, 0
	return changed
}

// Goodbye notes that an agent's gateway is about to end.
func (m *Machine) Goodbye(id Agent) {
	if a := m.agents[id]; a != nil {
		a.leaving = true
	}
}

// Gone notes that an agent is not connected any more.
func (m *Machine) Gone(id Agent, now time.Time) {
	if a := m.agents[id]; a != nil && a.connected {
		a.connected, a.moved = false, now
	}
}

// Step draws the conclusions of what was said so far, and returns when to call it again if nothing is said until then; zero:
// never.
func (m *Machine) Step(now time.Time) time.Time {
	m.forget(now)
	m.learn(now)
	m.listen(now)
	for id, g := range m.gateways {
		m.judge(id.Cluster, g, now)
	}
	m.conclude(now)
	return m.next(now)
}

// forget drops agents that do not matter any more.
func (m *Machine) forget(now time.Time) {
	there := map[string]bool{}
	for id, a := range m.agents {
		there[id.Cluster] = there[id.Cluster] || a.connected && !a.leaving && now.Sub(a.moved) >= m.options.Fresh
	}
	for id, a := range m.agents {
		if !a.connected && now.Sub(a.moved) >= m.options.Forget && (a.leaving || there[id.Cluster] || !a.addr.IsValid()) {
			m.drop(id)
		}
	}
}

// judge brings the verdict on one gateway up to date.
func (m *Machine) judge(cluster string, g *gateway, now time.Time) {
	g.downs = slices.DeleteFunc(g.downs, func(at time.Time) bool { return now.Sub(at) >= m.options.Flapping })
	word := m.word(cluster, g, now)
	switch word {
	case g.Health, clusterset.Unknown:
		g.against = clusterset.Unknown
		return
	case g.against:
	default:
		g.against, g.begun = word, now
	}
	if now.Sub(g.begun) < m.wait(g) {
		return
	}
	g.Verdict, g.against = Verdict{word, now, g.why(word)}, clusterset.Unknown
	if word == clusterset.Down {
		g.downs = append(g.downs, now)
	}
}

// wait is for how long what stands against a verdict has to last.
func (m *Machine) wait(g *gateway) time.Duration {
	switch {
	case g.against == clusterset.Down:
		return m.options.Down
	case g.Health == clusterset.Unknown:
		return 0 // nothing was taken out, so nothing has to be proved
	}
	return min(m.options.Up<<min(max(len(g.downs)-1, 0), 16), max(m.options.MaxUp, m.options.Up))
}

// conclude brings the verdicts on clusters up to date.
func (m *Machine) conclude(now time.Time) {
	all := map[string][]*gateway{}
	for id, g := range m.gateways {
		all[id.Cluster] = append(all[id.Cluster], g)
	}
	for id := range m.agents {
		all[id.Cluster] = append(all[id.Cluster], nil...)
	}
	maps.DeleteFunc(m.clusters, func(id string, _ *cluster) bool {
		_, there := all[id]
		return !there
	})
	for id := range all {
		if m.clusters[id] == nil {
			m.clusters[id] = &cluster{Verdict: Verdict{Since: now}}
		}
	}
	var down []string
	for _, id := range slices.Sorted(maps.Keys(all)) {
		c := m.clusters[id]
		wanted, reason := summary(all[id], c.Health)
		c.held = false
		if wanted == clusterset.Down && c.Health != clusterset.Down {
			down = append(down, id) // when it is known who else is
			continue
		}
		c.set(wanted, reason, now)
	}
	for _, id := range down {
		c := m.clusters[id]
		_, reason := summary(all[id], c.Health)
		if m.last(id) {
			c.held, c.Reason = true, "it would be Down ("+reason+"), but every other cluster is"
			continue
		}
		c.set(clusterset.Down, reason, now)
	}
}

// summary returns the verdict on a cluster with the given gateways, and why. It stays as it was when they do not say.
func summary(gateways []*gateway, was clusterset.Health) (clusterset.Health, string) {
	if len(gateways) == 0 {
		return clusterset.Unknown, "no gateway of it is known"
	}
	count := map[clusterset.Health]int{}
	reason := map[clusterset.Health]string{}
	for _, g := range gateways {
		count[g.Health]++
		reason[g.Health] = max(reason[g.Health], g.Reason) // any, but the same each time
	}
	switch {
	case count[clusterset.Up] > 0:
		return clusterset.Up, reason[clusterset.Up]
	case count[clusterset.Down] == len(gateways):
		return clusterset.Down, reason[clusterset.Down]
	}
	return was, reason[clusterset.Unknown]
}

func (c *cluster) set(h clusterset.Health, reason string, now time.Time) {
	if c.Health != h {
		c.Health, c.Since = h, now
	}
	c.Reason = reason
}

// last tells whether every other cluster is Down.
func (m *Machine) last(id string) bool {
	for other, c := range m.clusters {
		if other != id && c.Health != clusterset.Down {
			return false
		}
	}
	return true
}

// next is when time alone changes something.
func (m *Machine) next(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	at(m.start.Add(m.options.Settle))
	for _, a := range m.agents {
		if !a.heard.IsZero() {
			at(a.heard.Add(m.options.Fresh))
		}
		if a.connected {
			at(a.moved.Add(m.options.Fresh))
		} else {
			at(a.moved.Add(m.options.Forget))
		}
	}
	for _, g := range m.gateways {
		if g.against != clusterset.Unknown {
			at(g.begun.Add(m.wait(g)))
		}
	}
	return next
}

// OfGateway returns the verdict on a gateway; false if it is not known.
func (m *Machine) OfGateway(id Gateway) (Verdict, bool) {
	g, ok := m.gateways[id]
	if !ok {
		return Verdict{}, false
	}
	return g.Verdict, true
}

// OfCluster returns the verdict on a cluster. Held tells that it would be Down were it not the last one.
func (m *Machine) OfCluster(id string) (v Verdict, held bool) {
	c, ok := m.clusters[id]
	if !ok {
		return Verdict{Reason: "no gateway of it is known"}, false
	}
	return c.Verdict, c.held
}

// Knows tells whether what an agent said is not forgotten.
func (m *Machine) Knows(id Agent) bool { return m.agents[id] != nil }

// Clusters returns the ids of all clusters with an agent or a gateway, sorted.
func (m *Machine) Clusters() []string { return slices.Sorted(maps.Keys(m.clusters)) }

// Gateways returns all that are known, sorted.
func (m *Machine) Gateways() []Gateway {
	return slices.SortedFunc(maps.Keys(m.gateways), func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr))
	})
}
