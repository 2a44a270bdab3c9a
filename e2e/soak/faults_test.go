package soak_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"time"
)

// fault is something that may happen. It returns when everything is as it was before, or as good.
type fault struct {
	name string
	do   func(*chaos) error
}

// chaos has faults happen, one after the other.
type chaos struct {
	t      *testing.T
	world  *world
	random *rand.Rand
	hold   time.Duration // for which a fault lasts
	fresh  []fault       // that have not happened since all have
}

func faults() []fault {
	return []fault{
		{"pod", (*chaos).pod},
		{"gateway drained", func(c *chaos) error { return c.restart(drainTime, false) }},
		{"gateway killed", func(c *chaos) error { return c.restart(time.Millisecond, true) }},
		{"link cut", func(c *chaos) error { return c.cut(true, true) }},
		{"link cut one way, to", func(c *chaos) error { return c.cut(true, false) }},
		{"link cut one way, from", func(c *chaos) error { return c.cut(false, true) }},
		{"link slow", (*chaos).slow},
		{"certificate renewed", func(c *chaos) error { return c.member().identity.renew() }},
		{"certificate revoked", (*chaos).revoke},
		{"services come and go", func(c *chaos) error { return c.world.churn() }},
		{"outbound upgraded", func(c *chaos) error { return c.replace(drainTime) }},
		{"outbound hurried", func(c *chaos) error { return c.replace(50 * time.Millisecond) }},
		{"passthrough upgraded", (*chaos).upgrade},
	}
}

// member chooses a cluster.
func (c *chaos) member() *member { return c.world.members[c.random.IntN(3)] }

// happen has a fault happen; all of them do before one does again.
func (c *chaos) happen() {
	if len(c.fresh) == 0 {
		c.fresh = faults()
		c.random.Shuffle(len(c.fresh), func(i, j int) { c.fresh[i], c.fresh[j] = c.fresh[j], c.fresh[i] })
	}
	f := c.fresh[0]
	c.fresh = c.fresh[1:]
	c.world.books.note(f.name)
	watchdog := time.AfterFunc(2*patience, func() {
		debug.SetTraceback("all")
		panic(f.name + " does not end")
	})
	defer watchdog.Stop()
	if err := f.do(c); err != nil {
		c.t.Errorf("%s: %v", f.name, err)
	}
	c.world.books.note(f.name + ": over")
}

func (c *chaos) last() { rest(context.Background(), c.hold) }

// noticed is after which time the table says that a pod has died.
const noticed = 200 * time.Millisecond

// pod kills a pod; the table says so a little later, and another one comes.
func (c *chaos) pod() error {
	m, key := c.member(), web
	if len(m.pods[web]) == 0 || c.random.IntN(2) == 0 {
		key = api
	}
	old := m.pods[key][0]
	old.kill()
	rest(context.Background(), noticed)
	m.pods[key] = m.pods[key][1:]
	c.world.endpoints(m, key)
	c.last()
	m.pods[key] = append(m.pods[key], newPod(c.t, c.world.books, old.config))
	c.world.endpoints(m, key)
	return nil
}

// restart stops a gateway that takes tunnels, and starts it again.
func (c *chaos) restart(drain time.Duration, kill bool) error {
	m := c.member()
	d := m.doors[c.random.IntN(len(m.doors))]
	if kill {
		d.line.refuse()
	}
	err := d.run.stop()
	c.world.books.note("gateway gone")
	d.line.refuses.Store(true)
	c.last()
	d.line.heal()
	return errors.Join(err, d.open(drainTime))
}

// cut cuts what leads to the gateways of a cluster, or to one of them.
func (c *chaos) cut(to, from bool) error {
	m := c.member()
	doors := m.doors[c.random.IntN(len(m.doors)):]
	for _, d := range doors {
		d.line.up.set(!to)
		d.line.down.set(!from)
	}
	c.last()
	for _, d := range doors {
		d.line.heal()
	}
	return nil
}

func (c *chaos) slow() error {
	doors := c.member().doors
	for _, d := range doors {
		d.line.delay.Store(int64(60 * time.Millisecond))
	}
	c.last()
	for _, d := range doors {
		d.line.heal()
	}
	return nil
}

// revoke revokes the certificate of a cluster, which gets another one a little later.
func (c *chaos) revoke() error {
	m := c.member()
	if time.Since(m.identity.issued()) < 2*time.Second {
		return nil // times in certificates are seconds
	}
	c.world.revoke(m)
	rest(context.Background(), noticed)
	return m.identity.renew()
}

// replace starts another outbound gateway with its tunnels, and ends the one before.
func (c *chaos) replace(drain time.Duration) error {
	m := c.member()
	next, err := m.leave(drain)
	if err != nil {
		return fmt.Errorf("starting another gateway in %s: %w", m.id, err)
	}
	old := m.out
	m.out = next
	c.world.books.note("outbound stops")
	return old.stop()
}

func (c *chaos) upgrade() error {
	m := c.world.members[1]
	next, err := m.passthrough()
	if err != nil {
		return err
	}
	old := m.pass
	m.pass = next
	return old.stop()
}

// whole tells whether everything works, and nothing is under way.
func (w *world) whole() error {
	for _, m := range w.members {
		for _, s := range m.out.dialer.State() {
			if s.Tunnels != s.Wanted || s.Streams != 0 {
				return fmt.Errorf("%s has %d tunnels of %d to %s, and %d streams: %s", m.id, s.Tunnels, s.Wanted, s.Peer, s.Streams, s.Problem)
			}
		}
		for _, s := range m.out.gateway.Stats() {
			if s.Open != 0 || s.Problem != "" || s.Port.Namespace != web.Namespace {
				return fmt.Errorf("%s has %d connections to %s: %s", m.id, s.Open, s.Port.Key, s.Problem)
			}
			for _, p := range s.Peers {
				if p.Open != 0 {
					return fmt.Errorf("%s counts %d connections to %s in %s", m.id, p.Open, s.Port.Key, p.Cluster)
				}
			}
		}
		for _, d := range m.doors {
			flows, _ := d.handler.Stats()
			for _, f := range flows {
				if f.Open != 0 {
					return fmt.Errorf("a gateway of %s has %d streams for %s of %s", m.id, f.Open, f.Flow.Key, f.Flow.Cluster)
				}
			}
		}
	}
	return nil
}
