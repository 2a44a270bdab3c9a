package agents

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// Peers are the gateways of other clusters that an agent keeps tunnels to.
type Peers interface {
	// Sights returns what is seen of each.
	Sights() []Sight
	// Changed returns a channel that something arrives at, or that is closed, when that changed since Changed was called.
	Changed() <-chan struct{}
}

// Tracer sends probes.
type Tracer interface {
	// Trace returns the hops up to the one that failed, or all. The error says why there was no probe at all.
	Trace(ctx context.Context, r TraceRequest) ([]Hop, error)
}

// TracerFunc is a function as a Tracer.
type TracerFunc func(ctx context.Context, r TraceRequest) ([]Hop, error)

// Trace calls the function.
func (f TracerFunc) Trace(ctx context.Context, r TraceRequest) ([]Hop, error) { return f(ctx, r) }

// Options are what a Client is made of. Peers, Problem, Stats and Tracer may be nil: then there are none.
type Options struct {
	// Hubs returns where the hubs are, HOST:PORT each. It is asked every second. All of them are told.
	Hubs func() []string
	// Credentials prove who the client is, and check who the hub is.
	Credentials credentials.TransportCredentials
	// Hello returns what the agent says of itself. It is asked every second: a change is told.
	Hello func() Hello
	Peers Peers
	// Problem returns why the gateway does not reach pods of its own cluster; empty: it does.
	Problem func() string
	Stats   func() Stats
	Tracer  Tracer
	// Timing has defaults for fields that are zero.
	Timing Timing
	Log    logr.Logger
	// Dial is added to how connections are made.
	Dial []grpc.DialOption
}

// Timing is how long a Client waits for what.
type Timing struct {
	Report     time.Duration // between two reports: 1 s
	Rest       time.Duration // after a report, until a change is told: 50 ms
	Stats      time.Duration // between two Stats: 2 s
	Silence    time.Duration // until a hub is left that does not answer, or does not take what is told: 5 s
	Backoff    time.Duration // before a hub is tried again: 100 ms, doubled each time
	MaxBackoff time.Duration // however often: 5 s
}

func (t Timing) orDefault() Timing {
	return Timing{
		Report: cmp.Or(t.Report, time.Second), Rest: cmp.Or(t.Rest, 50*time.Millisecond), Stats: cmp.Or(t.Stats, 2*time.Second),
		Silence: cmp.Or(t.Silence, 5*time.Second), Backoff: cmp.Or(t.Backoff, 100*time.Millisecond), MaxBackoff: cmp.Or(t.MaxBackoff, 5*time.Second),
	}
}

// HubState is how a Client stands with one hub.
type HubState struct {
	Address string
	// Connected tells whether the hub has answered on the current stream. Since is since when, or since when not.
	Connected bool
	Since     time.Time
	// Name is what the hub calls itself; Problem is why the last stream ended.
	Name, Problem string
	// Left tells whether goodbye was said on the current stream.
	Left bool
}

// Client tells every hub what an agent sees.
type Client struct {
	options Options

	mu      sync.Mutex
	said    said          // newest
	changed chan struct{} // closed when said is replaced
	hubs    map[string]*HubState
	leaving bool
	parted  chan struct{} // holds one: goodbye was said to one more
}

// said is what every hub is to know: immutable.
type said struct {
	hello   *agentpb.AgentMessage
	report  *agentpb.AgentMessage
	leaving bool
}

// NewClient returns a client that tells nobody before Run.
func NewClient(o Options) *Client {
	o.Timing = o.Timing.orDefault()
	c := &Client{options: o, changed: make(chan struct{}), hubs: map[string]*HubState{}, parted: make(chan struct{}, 1)}
	c.look()
	return c
}

// Run tells until ctx ends. It does not say goodbye: Leave does.
func (c *Client) Run(ctx context.Context) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := map[string]context.CancelFunc{}
	every := time.NewTicker(c.options.Timing.Report)
	defer every.Stop()
	for {
		c.follow(ctx, running, &streams)
		peers := c.peersChanged()
		c.look()
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case <-peers:
			c.rest(ctx)
		}
	}
}

// Leave says goodbye to all hubs, those that are reached later included: the gateway is about to end, and finishes what it
// has. It returns once all that are connected have been told, or when ctx ends. It is for one goroutine.
func (c *Client) Leave(ctx context.Context) {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	c.look()
	for !c.left() {
		select {
		case <-c.parted:
		case <-ctx.Done():
			return
		}
	}
}

// left tells whether all hubs that are connected were told goodbye.
func (c *Client) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hubs {
		if h.Connected && !h.Left {
			return false
		}
	}
	return true
}

// noteLeft notes that goodbye was said.
func (c *Client) noteLeft(address string) {
	c.mu.Lock()
	if h := c.hubs[address]; h != nil {
		h.Left = true
	}
	c.mu.Unlock()
	c.wakeLeave()
}

// wakeLeave has Leave look again whom it waits for.
func (c *Client) wakeLeave() {
	select {
	case c.parted <- struct{}{}:
	default:
	}
}

func (c *Client) peersChanged() <-chan struct{} {
	if c.options.Peers == nil {
		return nil
	}
	return c.options.Peers.Changed()
}

// rest lets changes gather that come together.
func (c *Client) rest(ctx context.Context) {
	timer := time.NewTimer(c.options.Timing.Rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// look takes in what there is to tell, and wakes the streams.
func (c *Client) look() {
	var sights []Sight
	if c.options.Peers != nil {
		sights = c.options.Peers.Sights()
	}
	problem := ""
	if c.options.Problem != nil {
		problem = c.options.Problem()
	}
	next := said{
		hello:  &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Hello{Hello: c.options.Hello().encode()}},
		report: &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Report{Report: encodeReport(sights, problem)}},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next.leaving = c.leaving
	c.said = next
	close(c.changed)
	c.changed = make(chan struct{})
}

// newest returns what is to be told, and a channel that is closed when there is something newer.
func (c *Client) newest() (said, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said, c.changed
}

// follow starts streams to hubs that are new, and ends those to hubs that are gone.
func (c *Client) follow(ctx context.Context, running map[string]context.CancelFunc, streams *sync.WaitGroup) {
	hubs := c.options.Hubs()
	for address, cancel := range running {
		if !slices.Contains(hubs, address) {
			cancel()
			delete(running, address)
			c.forgetHub(address)
		}
	}
	for _, address := range hubs {
		if running[address] != nil {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		running[address] = cancel
		c.noteHub(address, false, "", "")
		streams.Go(func() { c.keep(own, address) })
	}
}

func (c *Client) forgetHub(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.hubs, address)
	c.wakeLeave()
}

// noteHub notes how a hub stands, and tells whether that is new.
func (c *Client) noteHub(address string, connected bool, name, problem string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hubs[address]
	if h == nil {
		h = &HubState{Address: address, Since: time.Now()}
		c.hubs[address] = h
	}
	fresh := h.Connected != connected || h.Problem != problem
	if h.Connected != connected {
		h.Connected, h.Since, h.Left = connected, time.Now(), false
		c.wakeLeave()
	}
	h.Name, h.Problem = name, problem
	return fresh
}

// State returns how the client stands with each hub, sorted by address.
func (c *Client) State() []HubState {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]HubState, 0, len(c.hubs))
	for _, h := range c.hubs {
		states = append(states, *h)
	}
	slices.SortFunc(states, func(a, b HubState) int { return cmp.Compare(a.Address, b.Address) })
	return states
}
