package clients

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// Protocols of a Group.
const (
	SotW  = "sotw"
	Delta = "delta"
)

// Group is some clients that are alike. Each has a connection of its own.
type Group struct {
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
	Count    int    `json:"count"`
	Agent    string `json:"agent"` // what they call their program
	Zone     string `json:"zone"`  // where they say they are
	// Dir has tls.crt, tls.key and ca.crt; empty means no TLS.
	Dir string `json:"dir,omitempty"`
	// Services is how many assignments each gets at least before it counts as in step; all those that it asked for it gets
	// in any case.
	Services int `json:"services"`
}

// Change is something new about a service.
type Change struct {
	Host string `json:"host"` // of the service, the last part of the assignment's name
	// Address is what comes into the assignment. Without one, any assignment that arrives is taken for the new one.
	Address string `json:"address,omitempty"`
	// First and Count say which clients see it, by their numbers in the order of the groups; a Count of 0 means all.
	First int `json:"first,omitempty"`
	Count int `json:"count,omitempty"`
}

// Swarm is a set of clients.
type Swarm struct {
	ctx      context.Context //nolint:containedctx // the life of the connections, which no call bounds
	cancel   context.CancelCauseFunc
	running  sync.WaitGroup
	clients  []*client
	waiting  atomic.Int64 // clients that are not in step yet
	inStep   chan struct{}
	expected atomic.Pointer[expectation]
	received atomic.Int64 // bytes of assignments
}

// Connect opens all clients at once, and returns when each of them is in step, or with the error of one of them. The
// swarm lives until Close.
func Connect(ctx context.Context, groups []Group, patience time.Duration) (*Swarm, error) {
	s := &Swarm{inStep: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.expected.Store(expect(nil, 0))
	for _, g := range groups {
		creds, err := g.Credentials()
		if err != nil {
			s.Close()
			return nil, err
		}
		for range g.Count {
			s.clients = append(s.clients, &client{swarm: s, group: g, creds: creds, index: len(s.clients)})
		}
	}
	s.waiting.Store(int64(len(s.clients)))
	for _, c := range s.clients {
		s.running.Go(func() {
			if err := c.run(s.ctx); err != nil {
				s.cancel(fmt.Errorf("%s client %d of %s: %w", c.group.Protocol, c.index, c.group.Zone, err))
			}
		})
	}
	if err := s.wait(ctx, s.inStep, patience); err != nil {
		s.Close()
		return nil, fmt.Errorf("%d of %d clients are in step: %w", len(s.clients)-int(s.waiting.Load()), len(s.clients), err)
	}
	return s, nil
}

// Close ends all clients.
func (s *Swarm) Close() {
	s.cancel(nil)
	s.running.Wait()
}

// wait returns when done is closed, or why it was not.
func (s *Swarm) wait(ctx context.Context, done <-chan struct{}, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("waited %s", patience)
	}
}

// Sync tells how long each client took from the beginning of its connection until it was in step, in nanoseconds.
func (s *Swarm) Sync() []int64 {
	took := make([]int64, len(s.clients))
	for i, c := range s.clients {
		took[i] = c.synced.Load() - c.began.Load()
	}
	return took
}

// Received is how many bytes of assignments all clients got so far.
func (s *Swarm) Received() int64 { return s.received.Load() }

// Expect begins to look for changes. Earlier ones are forgotten.
func (s *Swarm) Expect(changes []Change) { s.expected.Store(expect(changes, len(s.clients))) }

// Await returns, for each change, when each of the clients that see it got it, in nanoseconds since 1970 and in the order
// of the groups.
func (s *Swarm) Await(ctx context.Context, patience time.Duration) ([][]int64, error) {
	e := s.expected.Load()
	if err := s.wait(ctx, e.done, patience); err != nil {
		return nil, fmt.Errorf("%d arrivals of changes are missing: %w", e.missing.Load(), err)
	}
	return e.times(), nil
}

// Credentials are what the clients show, and what they check the server by.
func (g Group) Credentials() (credentials.TransportCredentials, error) {
	if g.Dir == "" {
		return insecure.NewCredentials(), nil
	}
	var content [3][]byte
	for i, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		var err error
		if content[i], err = os.ReadFile(filepath.Join(g.Dir, name)); err != nil { //nolint:gosec // G304: a folder of the benchmark's
			return nil, fmt.Errorf("reading the identity of clients: %w", err)
		}
	}
	config, err := identity.ClientConfigPEM(content[0], content[1], content[2])
	if err != nil {
		return nil, fmt.Errorf("the identity of clients in %s: %w", g.Dir, err)
	}
	return credentials.NewTLS(config), nil
}

// client is one connection with one stream.
type client struct {
	swarm *Swarm
	group Group
	creds credentials.TransportCredentials
	index int
	began atomic.Int64 // nanoseconds since 1970
	names []string     // of the assignments it asks for
	have  map[string]struct{}

	synced atomic.Int64 // nanoseconds since 1970; 0: it is not in step yet
}

// maxMessage is what a client takes in one message: the first ones hold everything.
const maxMessage = 256 << 20

func (c *client) run(ctx context.Context) error {
	c.have = map[string]struct{}{}
	c.began.Store(time.Now().UnixNano())
	conn, err := grpc.NewClient("passthrough:///"+c.group.Address, grpc.WithTransportCredentials(c.creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.WaitForReady(true), grpc.ForceCodecV2(newCodec())))
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", c.group.Address, err)
	}
	defer func() { _ = conn.Close() }()
	if c.group.Protocol == Delta {
		err = c.incremental(ctx, conn)
	} else {
		err = c.whole(ctx, conn)
	}
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	return err
}

// take notes an assignment that arrived.
func (c *client) take(name string, assignment []byte, at int64) {
	c.swarm.received.Add(int64(len(assignment)))
	if c.synced.Load() == 0 {
		c.have[name] = struct{}{}
		if len(c.have) >= max(c.group.Services, len(c.names)) {
			c.synced.Store(at)
			c.have = nil
			if c.swarm.waiting.Add(-1) == 0 {
				close(c.swarm.inStep)
			}
		}
	}
	c.swarm.expected.Load().see(c.index, hostOf(name), assignment, at)
}

// expectation is what arrives of some changes.
type expectation struct {
	byHost  map[string][]*awaited
	changes []*awaited
	missing atomic.Int64
	done    chan struct{}
}

// awaited is one change, and when each client that sees it got it.
type awaited struct {
	address []byte
	first   int
	arrived []atomic.Int64
}

func expect(changes []Change, clients int) *expectation {
	e := &expectation{byHost: map[string][]*awaited{}, done: make(chan struct{})}
	for _, change := range changes {
		count := change.Count
		if count == 0 {
			count = clients
		}
		a := &awaited{address: []byte(change.Address), first: change.First, arrived: make([]atomic.Int64, count)}
		e.byHost[change.Host] = append(e.byHost[change.Host], a)
		e.changes = append(e.changes, a)
		e.missing.Add(int64(count))
	}
	if e.missing.Load() == 0 {
		close(e.done)
	}
	return e
}

// see notes which changes an assignment brings a client.
func (e *expectation) see(client int, host string, assignment []byte, at int64) {
	for _, a := range e.byHost[host] {
		i := client - a.first
		if i < 0 || i >= len(a.arrived) || !holds(assignment, a.address) || !a.arrived[i].CompareAndSwap(0, at) {
			continue
		}
		if e.missing.Add(-1) == 0 {
			close(e.done)
		}
	}
}

func (e *expectation) times() [][]int64 {
	all := make([][]int64, len(e.changes))
	for i, a := range e.changes {
		all[i] = make([]int64, len(a.arrived))
		for k := range a.arrived {
			all[i][k] = a.arrived[k].Load()
		}
	}
	return all
}
