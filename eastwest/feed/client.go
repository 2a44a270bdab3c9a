package feed

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Options are what a Client is made of.
type Options struct {
	// Hubs returns where the hubs serve ADS, HOST:PORT each. It is asked before each connection.
	Hubs func() []string
	// Credentials prove who the client is, and check who the hub is.
	Credentials credentials.TransportCredentials
	// Node is what the client calls itself in the hub's list of clients; Program says which program it is.
	Node, Program string
	// Store keeps the snapshot; nil keeps nothing.
	Store *Store
	// Cluster is the id of the cluster in which the client runs, and Own follows that cluster itself: what it says of the
	// cluster's exports, endpoints and imports counts, and not what the hub says of them, from the first snapshot on that has
	// all of the cluster (whose facts say that it is in step). The facts about the cluster, and policies, are the hub's. Own
	// has to show imports of services that only others export (clusterset.Builder.ShowImports). Nil: the hub says everything.
	Cluster string
	Own     Snapshots
	// Timing has defaults for fields that are zero.
	Timing Timing
	Log    logr.Logger
	// Dial is added to how connections are made.
	Dial []grpc.DialOption
}

// Timing is how long a Client waits for what.
type Timing struct {
	Heartbeat  time.Duration // between asking for signs of life: 2 s
	Silence    time.Duration // until a hub that says nothing, or does not connect, is left: 5 s
	Backoff    time.Duration // before the next hub is tried: 100 ms, doubled each time all have failed
	MaxBackoff time.Duration // however often all have failed: 10 s
	Hold       time.Duration // until a snapshot is published that is not complete: 20 ms
	First      time.Duration // the same, while nothing is known at all: 5 s
	Save       time.Duration // between writing two snapshots to disk: 2 s
}

func (t Timing) orDefault() Timing {
	return Timing{
		Heartbeat: cmp.Or(t.Heartbeat, 2*time.Second), Silence: cmp.Or(t.Silence, 5*time.Second),
		Backoff: cmp.Or(t.Backoff, 100*time.Millisecond), MaxBackoff: cmp.Or(t.MaxBackoff, 10*time.Second),
		Hold: cmp.Or(t.Hold, 20*time.Millisecond), First: cmp.Or(t.First, 5*time.Second), Save: cmp.Or(t.Save, 2*time.Second),
	}
}

// State is how a Client stands.
type State struct {
	// Connected tells whether a hub answers: it has said something on the current stream. Since is since when, or since when
	// not; before the first connection it is when the saved snapshot's hub was last heard, or when the client was made.
	Connected bool
	Since     time.Time
	// Hub is the one in use, or tried last. Problem is why the last stream ended; empty while connected.
	Hub, Problem string
	// Heard is when a hub last said anything; zero: never.
	Heard time.Time
	// Sequence is the number of the published snapshot, or of a later one of the hub with the same content; 0 while nothing is known.
	// Where the client had to count on by itself it may be ahead of the hub. HubSequence is that of the hub's snapshot
	// as of its last response; 0 before the first one of a stream. Complete tells whether the published snapshot has all that
	// the hub told so far.
	Sequence, HubSequence uint64
	Complete              bool
	// Services and Clusters are how many are known.
	Services, Clusters int
	// Refused are the resources whose current content could not be read, sorted, with what is wrong.
	Refused []Refusal
}

// Refusal is a resource that could not be read.
type Refusal struct{ Type, Name, Problem string }

// Age returns how old what is known is: zero while connected. What was never known has no age.
func (s State) Age(now time.Time) time.Duration {
	if s.Connected || s.Heard.IsZero() {
		return 0
	}
	return max(now.Sub(s.Heard), 0)
}

// Client keeps a table of services in step with a hub's.
type Client struct {
	options Options
	latest  *clusterset.Latest
	ready   chan struct{}
	dirty   chan struct{} // holds one: there is something to be saved

	mu      sync.Mutex
	table   *table
	held    bool // something was taken in from the hub and is not published
	state   State
	refused map[refusedKey]string
}

type refusedKey struct{ url, name string }

// New returns a client that knows what its store kept, and asks nobody before Run. A file that cannot be used is logged,
// and put aside.
func New(o Options) *Client {
	o.Timing = o.Timing.orDefault()
	c := &Client{
		options: o, ready: make(chan struct{}), dirty: make(chan struct{}, 1), refused: map[refusedKey]string{},
		table: newTable(0), state: State{Since: time.Now()},
	}
	c.table.own.cluster = o.Cluster
	c.latest = clusterset.NewLatest(c.table.builder.Current())
	if o.Store != nil {
		c.restore()
	}
	return c
}

func (c *Client) restore() {
	kept, err := c.options.Store.Load()
	if err != nil {
		c.options.Log.Error(err, "The saved snapshot is not used; names are unknown until a hub answers")
		return
	}
	if len(kept.Clusters)+len(kept.Services)+len(kept.Revocations) == 0 {
		return
	}
	number := kept.Sequence
	if c.options.Own != nil { // numbers that were not saved have been given since
		number = clusterset.NextSequence(number, time.Now())
	}
	c.table = c.table.renew(max(number, 1) - 1)
	if err := c.table.restore(kept); err != nil {
		c.options.Log.Error(err, "A part of the saved snapshot is not used; it is unknown until a hub answers")
	}
	c.state.Since, c.state.Heard = kept.Heard, kept.Heard
	c.publish(number)
}

// Current returns the newest snapshot, and a channel that is closed when there is a newer one. The first one is empty and
// has number 0 unless a store kept one.
func (c *Client) Current() (*clusterset.Snapshot, <-chan struct{}) { return c.latest.Current() }

// Ready returns a channel that is closed once anything is known: from the store, or from a hub.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// State returns how the client stands.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state
	state.Services, state.Clusters = len(c.table.services), len(c.table.clusters)
	for key, problem := range c.refused {
		state.Refused = append(state.Refused, Refusal{key.url, key.name, problem})
	}
	slices.SortFunc(state.Refused, func(a, b Refusal) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) })
	return state
}

// Run keeps the table in step until ctx ends, and saves it in the end. The error is that of the last saving.
func (c *Client) Run(ctx context.Context) error {
	var working, closing sync.WaitGroup
	working.Go(func() { c.saveAsNeeded(ctx) })
	if c.options.Own != nil {
		working.Go(func() { c.followOwn(ctx) })
	}
	defer closing.Wait()
	tries := newHubs(c.options.Hubs, c.options.Timing)
	for ctx.Err() == nil {
		address, known := tries.next()
		begin := time.Now()
		err := errNoHub
		if known {
			c.trying(address)
			err = c.converse(ctx, address, &closing)
		}
		tries.left(time.Since(begin))
		pause := tries.pause()
		c.left(ctx, err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	working.Wait()
	return c.save()
}

var errNoHub = errors.New("no address of a hub is known: look at what announces them")

func (c *Client) trying(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Hub, c.state.HubSequence = address, 0
}

// left notes that there is no stream any more, and why.
func (c *Client) left(ctx context.Context, err error, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Connected {
		c.state.Connected, c.state.Since = false, time.Now()
		c.touch() // for when the hub was last heard
	}
	log := c.options.Log
	if c.state.Problem == err.Error() {
		log = log.V(1) // said already
	}
	c.state.Problem = err.Error()
	if ctx.Err() == nil {
		log.Info("There is no hub at the moment; what is known stays", "hub", c.state.Hub, "reason", err.Error(),
			"lastHeard", heardAt(c.state.Heard), "nextTry", pause.String())
	}
}

// heardAt is a time for the log.
func heardAt(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

// heard notes a sign of life.
func (c *Client) heard(sequence uint64) {
	now := time.Now()
	if !c.state.Connected {
		c.state.Connected, c.state.Since, c.state.Problem = true, now, ""
		c.options.Log.Info("A hub answers", "hub", c.state.Hub, "sequence", sequence)
	}
	c.state.Heard, c.state.HubSequence = now, max(sequence, c.state.HubSequence)
}

// publish hands out what the table holds, under a number; 0: the client's own. What has not changed keeps the snapshot, and
// yet State says of which number of the hub's it is.
func (c *Client) publish(number uint64) {
	own := number
	if own <= c.state.Sequence {
		own = clusterset.NextSequence(c.state.Sequence, time.Time{})
	}
	snapshot := c.table.publish(own)
	old, _ := c.latest.Current()
	if snapshot == old {
		if c.state.Sequence != 0 && number > c.state.Sequence {
			c.state.Sequence = number
			c.touch()
		}
		return
	}
	c.latest.Publish(snapshot)
	c.state.Sequence = snapshot.Sequence()
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
	c.touch()
}

// touch has the snapshot saved.
func (c *Client) touch() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// saveAsNeeded saves what changed, at once the first time and then at intervals.
func (c *Client) saveAsNeeded(ctx context.Context) {
	for {
		select {
		case <-c.dirty:
		case <-ctx.Done():
			return
		}
		if err := c.save(); err != nil {
			c.options.Log.Error(err, "The snapshot is not saved; it is tried again with the next change")
		}
		select {
		case <-time.After(c.options.Timing.Save):
		case <-ctx.Done():
			return
		}
	}
}

// save writes what is known to the store.
func (c *Client) save() error {
	if c.options.Store == nil {
		return nil
	}
	c.mu.Lock()
	kept := Kept{
		Sequence: c.state.Sequence, Heard: c.state.Heard,
		Clusters: c.table.resources(servicepb.ClusterType), Services: c.table.resources(servicepb.ServiceType),
		Revocations: c.table.revoked,
	}
	c.mu.Unlock()
	if kept.Sequence == 0 {
		return nil // nothing was ever known
	}
	return c.options.Store.Save(kept)
}

// forgetRefusals drops those of resources that are gone.
func (c *Client) forgetRefusals(url string, names []string) {
	maps.DeleteFunc(c.refused, func(key refusedKey, _ string) bool { return key.url == url && slices.Contains(names, key.name) })
}
