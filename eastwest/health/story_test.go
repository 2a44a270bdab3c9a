package health_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// A world plays what agents say to a machine, on a clock of its own. Each cluster has one gateway per node; the gateway of
// node n of cluster c has an address of its own.
type world struct {
	t       *testing.T
	machine *health.Machine
	start   time.Time
	now     time.Time
	next    time.Time
	said    map[health.Agent]health.Report // by those that go on telling every second
	last    map[health.Agent]time.Time
	silent  map[health.Agent]bool
}

func newWorld(t *testing.T, agents ...string) *world {
	t.Helper()
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &world{
		t: t, machine: health.New(health.Options{}, start), start: start, now: start, said: map[health.Agent]health.Report{},
		last: map[health.Agent]time.Time{}, silent: map[health.Agent]bool{},
	}
	for _, name := range agents {
		w.hello(name)
	}
	return w
}

// agent parses CLUSTER/NODE; a name without a node is that of node 1.
func agent(name string) health.Agent {
	cluster, node, found := strings.Cut(name, "/")
	if !found {
		node = "1"
	}
	return health.Agent{Cluster: cluster, Node: node}
}

// gateway returns that of an agent: its cluster is a letter, its node a digit.
func gateway(name string) health.Gateway {
	a := agent(name)
	return health.Gateway{Cluster: a.Cluster, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, a.Cluster[0], 0, a.Node[0]}), 15445)}
}

func (w *world) hello(name string) {
	id := agent(name)
	w.machine.Hello(id, gateway(name).Addr, w.now)
	delete(w.silent, id)
	w.step()
}

// say has an agent say from now on: words such as "b:Up c/2:Down", and what is wrong with itself after "!".
func (w *world) say(name, words string) {
	words, problem, _ := strings.Cut(words, "!")
	report := health.Report{Problem: problem, Sights: map[health.Gateway]clusterset.Health{}}
	for word := range strings.FieldsSeq(words) {
		target, h, _ := strings.Cut(word, ":")
		report.Sights[gateway(target)] = clusterset.Health(strings.Replace(h, "Unknown", "", 1))
	}
	id := agent(name)
	w.said[id] = report
	w.tell(id)
}

func (w *world) tell(id health.Agent) {
	w.last[id] = w.now
	if w.machine.Report(id, w.said[id], w.now) {
		w.step()
	}
}

// silence has an agent say nothing more, though it is connected.
func (w *world) silence(name string) { w.silent[agent(name)] = true }

// die has an agent's stream end.
func (w *world) die(name string) {
	w.silence(name)
	w.machine.Gone(agent(name), w.now)
	w.step()
}

func (w *world) goodbye(name string) {
	w.machine.Goodbye(agent(name))
	w.step()
}

func (w *world) step() { w.next = w.machine.Step(w.now) }

// pass lets time pass: agents tell every second, and the machine is stepped when it asked for it.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, who := end, []health.Agent(nil)
		for id, last := range w.last {
			due := last.Add(time.Second)
			switch {
			case w.silent[id] || due.After(at):
			case due.Before(at):
				at, who = due, []health.Agent{id}
			default:
				who = append(who, id)
			}
		}
		if !w.next.IsZero() && w.next.Before(at) {
			at, who = w.next, nil
		}
		w.now = at
		for _, id := range who {
			w.tell(id)
		}
		if !w.next.IsZero() && !w.next.After(at) {
			w.step()
		}
		if !at.Before(end) {
			return
		}
	}
}

// verdicts returns those on all clusters, and behind a gateway sign those on gateways that differ from their cluster.
func (w *world) verdicts() string {
	var words []string
	for _, id := range w.machine.Clusters() {
		v, held := w.machine.OfCluster(id)
		word := id + ":" + name(v.Health)
		if held {
			word += "(held)"
		}
		words = append(words, word)
	}
	for _, g := range w.machine.Gateways() {
		v, _ := w.machine.OfGateway(g)
		c, _ := w.machine.OfCluster(g.Cluster)
		if v.Health != c.Health {
			words = append(words, fmt.Sprintf("%s/%c:%s", g.Cluster, g.Addr.Addr().As4()[3], name(v.Health)))
		}
	}
	return strings.Join(words, " ")
}

func name(h clusterset.Health) string {
	if h == clusterset.Unknown {
		return "Unknown"
	}
	return string(h)
}

func (w *world) want(reason, verdicts string) {
	w.t.Helper()
	if got := w.verdicts(); got != verdicts {
		w.t.Errorf("after %v: %s, want %s: %s", w.now.Sub(w.start), got, verdicts, reason)
	}
}

// three returns clusters a, b and c that see each other, ten seconds after the start.
func three(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "a", "b", "c")
	w.say("a", "b:Up c:Up")
	w.say("b", "a:Up c:Up")
	w.say("c", "a:Up b:Up")
	w.pass(10 * time.Second)
	w.want("they see each other", "a:Up b:Up c:Up")
	return w
}

// two is three without c.
func two(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "a", "b")
	w.say("a", "b:Up")
	w.say("b", "a:Up")
	w.pass(10 * time.Second)
	w.want("they see each other", "a:Up b:Up")
	return w
}
