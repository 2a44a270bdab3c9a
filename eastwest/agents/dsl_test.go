package agents_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/health"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

// say are credentials with which a client says who it is, and is believed: identities are what other packages test.
type say struct{ id string }

func (s say) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	hello := append(binary.BigEndian.AppendUint16(nil, uint16(len(s.id))), s.id...)
	_, err := conn.Write(hello)
	return conn, said{}, err
}

func (s say) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	size := make([]byte, 2)
	if _, err := io.ReadFull(conn, size); err != nil {
		return nil, nil, err
	}
	id := make([]byte, binary.BigEndian.Uint16(size))
	_, err := io.ReadFull(conn, id)
	return conn, said{id: string(id)}, err
}

func (say) Info() credentials.ProtocolInfo { return credentials.ProtocolInfo{SecurityProtocol: "said"} }

func (s say) Clone() credentials.TransportCredentials { return s }
func (say) OverrideServerName(string) error           { return nil }

type said struct {
	credentials.CommonAuthInfo
	id string
}

func (said) AuthType() string { return "said" }

func spiffe(cluster string, role identity.Role) string {
	return identity.ClusterID(identity.DefaultTrustDomain(), cluster, role).String()
}

// hub is a Server behind gRPC, and what it observed.
type hub struct {
	t      *testing.T
	server *agents.Server
	addr   string
	stop   func()

	mu       sync.Mutex
	observed map[string]agents.Observed
	changed  chan struct{}
	revoked  map[string]bool
}

func newHub(t *testing.T, change func(*agents.ServerOptions)) *hub {
	t.Helper()
	h := &hub{t: t, observed: map[string]agents.Observed{}, changed: make(chan struct{}), revoked: map[string]bool{}}
	o := agents.ServerOptions{
		Name: "hub-1", Log: logr.Discard(), Identify: h.identify, Observe: h.observe,
		Health: health.Options{Down: 50 * time.Millisecond, Up: 50 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	h.server = agents.NewServer(o)
	serving := grpc.NewServer(grpc.Creds(say{}))
	h.server.Register(serving, func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		id, err := h.identify(p)
		if err == nil && !id.Admin() {
			err = fmt.Errorf("%s is no admin", id)
		}
		return err
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = h.server.Run(ctx) })
	all.Go(func() {
		if err := serving.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		serving.Stop()
		all.Wait()
	})
	t.Cleanup(h.stop)
	return h
}

func (h *hub) identify(p *peer.Peer) (identity.ID, error) {
	info, ok := p.AuthInfo.(said)
	if !ok {
		return identity.ID{}, errors.New("nobody")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revoked[info.id] {
		return identity.ID{}, fmt.Errorf("the certificate of %s was revoked", info.id)
	}
	return identity.ParseString(info.id)
}

func (h *hub) observe(cluster string, o agents.Observed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observed[cluster] = o
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits for what was observed of a cluster.
func (h *hub) until(what, cluster string, is func(agents.Observed) bool) agents.Observed {
	h.t.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		o, changed := h.observed[cluster], h.changed
		h.mu.Unlock()
		if is(o) {
			return o
		}
		select {
		case <-changed:
		case <-deadline:
			h.t.Fatalf("cluster %s: %s has not happened; it is %+v", cluster, what, o)
		}
	}
}

func (h *hub) untilHealth(cluster string, want clusterset.Health) {
	h.t.Helper()
	h.until("becoming "+string(want), cluster, func(o agents.Observed) bool { return o.DataPlane == want })
}

// dial connects as somebody.
func (h *hub) dial(id string) *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+h.addr, grpc.WithTransportCredentials(say{id}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// admin calls the operations.
func (h *hub) admin() agentpb.Operations {
	return agentpb.Operations{Conn: h.dial(identity.AdminID(identity.DefaultTrustDomain()).String())}
}

// open opens a stream as the gateway of a cluster, without a Client.
func (h *hub) open(cluster string) agentpb.ConnectClient {
	h.t.Helper()
	return h.openAs(spiffe(cluster, identity.RoleGateway))
}

func (h *hub) openAs(id string) agentpb.ConnectClient {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	stream, err := agentpb.Connect(ctx, h.dial(id))
	if err != nil {
		h.t.Fatal(err)
	}
	return stream
}

// peers are what an agent sees, as a test says.
type peers struct {
	mu      sync.Mutex
	sights  []agents.Sight
	changed chan struct{}
}

func (p *peers) Sights() []agents.Sight {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sights
}

func (p *peers) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *peers) see(sights ...agents.Sight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sights = sights
	close(p.changed)
	p.changed = make(chan struct{})
}

// running is a Client of a gateway.
type running struct {
	*agents.Client
	peers *peers
	stop  func()
}

func tunnelOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 15445)
}

// runAgent runs the agent of a cluster's gateway, whose address ends in n.
func runAgent(t *testing.T, cluster string, n int, hubs []string, change func(*agents.Options)) *running {
	t.Helper()
	p := &peers{changed: make(chan struct{})}
	o := agents.Options{
		Hubs: func() []string { return hubs }, Credentials: say{spiffe(cluster, identity.RoleGateway)}, Peers: p, Log: logr.Discard(),
		Hello: func() agents.Hello {
			return agents.Hello{
				Node: cluster + "-node", Version: "v1", Outside: tunnelOf(n).Addr(), Tunnel: 15445, Passthrough: 15443,
				Inside: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
			}
		},
		Timing: agents.Timing{Report: 100 * time.Millisecond, Rest: time.Millisecond, Backoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	client := agents.NewClient(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := client.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r := &running{Client: client, peers: p, stop: sync.OnceFunc(func() {
		cancel()
		<-done
	})}
	t.Cleanup(r.stop)
	return r
}

func sight(cluster string, n int, h clusterset.Health) agents.Sight {
	return agents.Sight{
		Cluster: cluster, Addr: tunnelOf(n), Health: h, Since: time.Now(), Heard: time.Now(), RTT: 20 * time.Millisecond, Tunnels: 4, Wanted: 4, Streams: 7,
	}
}
