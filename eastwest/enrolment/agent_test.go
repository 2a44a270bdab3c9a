package enrolment_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

const day = 24 * time.Hour

// issued returns when the certificate of an agent was issued.
func issued(t *testing.T, agent *enrolment.Agent) time.Time {
	t.Helper()
	svid, err := agent.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return identity.Issued(svid.Certificates[0])
}

// pass lets time go by, which is that of a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// passDays lets days go by, on each of which the hub does its work.
func passDays(h *hub, days int) {
	for range days {
		pass(day)
		h.tick()
	}
}

// TestAgent is the life of an agent.
func TestAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		agent := newAgent(t, options)
		if _, err := agent.GetX509SVID(); !errors.Is(err, enrolment.ErrNotEnrolled) {
			t.Errorf("before it enrolled: %v", err)
		}
		before := agent.Changed()
		stop := run(t, agent)
		<-agent.Ready()
		<-before
		state := agent.State()
		if state.ID != identity.ClusterID(identity.DefaultTrustDomain(), "m1", identity.RoleGateway) || time.Until(state.Until) > identity.Lifetime || state.Problem != nil {
			t.Fatalf("%+v", state)
		}
		first := issued(t, agent)

		pass(21 * time.Hour)
		if !issued(t, agent).Equal(first) {
			t.Error("renewed before 21 hours have gone")
		}
		pass(3*time.Hour + time.Minute)
		second := issued(t, agent)
		if second.Equal(first) {
			t.Error("not renewed within a day")
		}

		// The hub is away for days. It could be weeks.
		h.set(func(h *hub) { h.away = true })
		pass(5 * day)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "hub:15010") || state.Until.Before(time.Now()) {
			t.Errorf("while the hub is away: %+v", state)
		}
		h.set(func(h *hub) { h.away = false })
		h.tick()
		pass(7 * time.Minute)
		if state := agent.State(); state.Problem != nil || time.Since(issued(t, agent)) > 8*time.Minute {
			t.Errorf("after the hub came back: %+v", state)
		}

		// A new process goes on with what is kept, without the hub and without any token.
		stop()
		last := issued(t, agent)
		options.AccountTokenFile = ""
		again := newAgent(t, options)
		<-again.Ready()
		if !issued(t, again).Equal(last) {
			t.Error("a new process has another certificate")
		}
		stop = run(t, again)
		passDays(h, 2)
		if issued(t, again).Equal(last) {
			t.Error("a new process does not renew")
		}
		stop()
		checkFiles(t, options.Dir)
	})
}

// checkFiles looks at what an agent leaves on the disk.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if whole, err := os.Stat(dir); err != nil || whole.Mode() != fs.ModeDir|0o700 {
		t.Errorf("directory mode %v, %v", whole.Mode(), err)
	}
}

// TestAgentRevoked: an agent whose certificate was revoked proves again who it is; one that is not in the cluster cannot.
func TestAgentRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		agent := newAgent(t, agentOptions(t, h))
		stop := run(t, agent)
		defer stop()
		<-agent.Ready()
		pass(time.Hour)
		h.set(func(h *hub) { h.revoked["m1"] = time.Now() })
		revoked := time.Now()
		// The feed of the agent is thrown out; it tells the agent why.
		feed, err := grpc.NewClient("passthrough:///hub:15010", grpc.WithContextDialer(h.dial),
			grpc.WithTransportCredentials(identity.Credentials(identity.HubClient{Own: agent, Roots: agent}.Config(), agent.Refused)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enrolmentpb.Renew(t.Context(), feed, &enrolmentpb.RenewRequest{Request: csr(t)}); err == nil {
			t.Error("a revoked certificate is accepted")
		}
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := issued(t, agent); got.Before(revoked) {
			t.Errorf("it was issued %s before the revocation", revoked.Sub(got))
		}
		// Once the cluster has left, nothing gives it another one.
		pass(time.Hour)
		h.set(func(h *hub) {
			h.revoked["m1"] = time.Now()
			delete(h.members, "m1.example")
		})
		last := issued(t, agent)
		agent.Hurry()
		pass(time.Hour)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "is not joined") || !issued(t, agent).Equal(last) {
			t.Errorf("after it has left: %+v", state)
		}
	})
}

// TestAgentHurries: whoever is in a hurry all the time does not make the agent ask all the time.
func TestAgentHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		agent := newAgent(t, agentOptions(t, h))
		stop := run(t, agent)
		defer stop()
		<-agent.Ready()
		for range 600 {
			agent.Hurry()
			pass(time.Second)
		}
		if got := outcomes(t, agent.Collectors()...)["renewed"]; got < 15 || got > 21 {
			t.Errorf("%v renewals in ten minutes, want one in thirty seconds", got)
		}
	})
}

func outcomes(t *testing.T, collectors ...prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			counts[strings.Join(labels, " ")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return counts
}

// TestAgentJoinToken enrolls with a token that is good once, lets the certificate end, and needs another token.
func TestAgentJoinToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		options.AccountTokenFile, options.Cluster = "", ""
		options.JoinTokenFile = filepath.Join(t.TempDir(), "token")
		agent := newAgent(t, options)
		stop := run(t, agent)
		pass(time.Minute)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "neither") {
			t.Errorf("without a token: %+v", state)
		}
		write(t, filepath.Dir(options.JoinTokenFile), "token", h.token("m1.example")+"\n")
		pass(2 * time.Minute)
		<-agent.Ready()
		passDays(h, 3) // the token is there still, and of no use
		if state := agent.State(); state.Problem != nil || state.ID.Cluster != "m1" {
			t.Errorf("%+v", state)
		}
		stop()

		passDays(h, 40) // nobody ran it
		agent = newAgent(t, options)
		stop = run(t, agent)
		pass(time.Hour)
		select {
		case <-agent.Ready():
			t.Error("it is ready with a certificate that ended")
		default:
		}
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "not used yet") {
			t.Errorf("with the used token: %+v", state)
		}
		if got := outcomes(t, h.server.Collectors()...)["enroll bad_token join_token"]; got != 0 {
			t.Errorf("the hub was asked %v times with a token that is worn out", got)
		}
		write(t, filepath.Dir(options.JoinTokenFile), "token", h.token("m1.example"))
		pass(10 * time.Minute)
		<-agent.Ready()
		if got := outcomes(t, agent.Collectors()...); got["enrolled"] != 1 || got[""] < float64(time.Now().Unix()) {
			t.Errorf("metrics: %v", got)
		}
		stop()
	})
}

// watcher is somebody at the address of the hub. It answers as it is told, and counts.
type watcher struct {
	calls  atomic.Int32
	answer func(public any) *enrolmentpb.Certificate
}

// Enroll implements enrolmentpb.EnrolmentServer.
func (w *watcher) Enroll(_ context.Context, request *enrolmentpb.EnrollRequest) (*enrolmentpb.Certificate, error) {
	w.calls.Add(1)
	asked, err := enrolment.ParseRequest(request.GetRequest())
	if err != nil || w.answer == nil {
		return nil, status.Error(codes.Unavailable, "nothing")
	}
	return w.answer(asked.Public), nil
}

func (w *watcher) dial(listener *bufconn.Listener) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
}

// certificateOf returns a certificate that a hub signed, with its key.
func certificateOf(t *testing.T, h *hub, id identity.ID) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(answerFor(t, h, key.Public(), id).GetChain(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func answerFor(t *testing.T, h *hub, public any, id identity.ID) *enrolmentpb.Certificate {
	t.Helper()
	s, err := id.SPIFFE()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := h.who.Sign(public, identity.Request{ID: s})
	if err != nil {
		t.Fatal(err)
	}
	return &enrolmentpb.Certificate{Chain: chain, Roots: h.who.BundlePEM()}
}

// TestAgentRefuses puts somebody else at the hub's address: no token must get there.
func TestAgentRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		cert   func(t *testing.T, h, other *hub) tls.Certificate
		change func(t *testing.T, o *enrolment.AgentOptions)
		want   string
	}{
		"OtherCA": {reason: "Not signed by whom the agent was told of.", want: "unknown authority", cert: func(t *testing.T, _, other *hub) tls.Certificate {
			return certificateOf(t, other, identity.HubID(identity.DefaultTrustDomain()))
		}},
		"Gateway": {reason: "A member must not pass for a hub.", want: "wanted is a hub", cert: func(t *testing.T, h, _ *hub) tls.Certificate {
			return certificateOf(t, h, identity.ClusterID(identity.DefaultTrustDomain(), "m2", identity.RoleGateway))
		}},
		"NoRoots": {
			reason: "Whoever answers first is not trusted.", want: "no roots", cert: func(t *testing.T, h, _ *hub) tls.Certificate {
				return certificateOf(t, h, identity.HubID(identity.DefaultTrustDomain()))
			},
			change: func(_ *testing.T, o *enrolment.AgentOptions) { o.RootsFile = "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, stopHub := newHub(t, nil)
				defer stopHub()
				other, stopOther := newHub(t, nil)
				defer stopOther()
				options := agentOptions(t, h)
				if tc.change != nil {
					tc.change(t, &options)
				}
				listener := bufconn.Listen(1 << 16)
				seen := &watcher{}
				server := grpc.NewServer(grpc.Creds(identity.Credentials(&tls.Config{
					MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{tc.cert(t, h, other)}, NextProtos: []string{"h2"},
				}, func(error) {})))
				enrolmentpb.RegisterEnrolmentServer(server, seen)
				done := make(chan error, 1)
				go func() { done <- server.Serve(listener) }()
				options.Dial = seen.dial(listener)
				agent := newAgent(t, options)
				stop := run(t, agent)
				pass(time.Hour)
				state := agent.State()
				stop()
				server.Stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if state.Problem == nil || !strings.Contains(state.Problem.Error(), tc.want) {
					t.Errorf("%s\ngot %v, want an error with %q", tc.reason, state.Problem, tc.want)
				}
				if seen.calls.Load() > 0 {
					t.Errorf("%s\nthe token was sent to somebody else", tc.reason)
				}
			})
		})
	}
}

// TestAgentLies has the right hub give what it should not: the agent takes none of it.
func TestAgentLies(t *testing.T) {
	td := identity.DefaultTrustDomain()
	for name, tc := range map[string]struct {
		reason string
		answer func(t *testing.T, h *hub, public any) *enrolmentpb.Certificate
		want   string
	}{
		"Role": {reason: "Another role than the one asked for.", want: "wanted is the role gateway", answer: func(t *testing.T, h *hub, public any) *enrolmentpb.Certificate {
			return answerFor(t, h, public, identity.ClusterID(td, "m1", identity.RoleDNS))
		}},
		"Key": {reason: "For another key.", want: "is of no use", answer: func(t *testing.T, h *hub, _ any) *enrolmentpb.Certificate {
			pair := certificateOf(t, h, identity.ClusterID(td, "m1", identity.RoleGateway))
			return answerFor(t, h, pair.Leaf.PublicKey, identity.ClusterID(td, "m1", identity.RoleGateway))
		}},
		"Roots": {reason: "The certificate does not lead to the roots.", want: "does not lead", answer: func(t *testing.T, h *hub, public any) *enrolmentpb.Certificate {
			answer := answerFor(t, h, public, identity.ClusterID(td, "m1", identity.RoleGateway))
			other, stop := newHub(t, nil)
			defer stop()
			answer.Roots = other.who.BundlePEM()
			return answer
		}},
		"NoRoots": {reason: "Nobody would be trusted.", want: "the roots", answer: func(t *testing.T, h *hub, public any) *enrolmentpb.Certificate {
			answer := answerFor(t, h, public, identity.ClusterID(td, "m1", identity.RoleGateway))
			answer.Roots = nil
			return answer
		}},
		"Nothing": {reason: "An empty answer.", want: "is of no use", answer: func(*testing.T, *hub, any) *enrolmentpb.Certificate { return &enrolmentpb.Certificate{} }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, stopHub := newHub(t, nil)
				defer stopHub()
				options := agentOptions(t, h)
				listener := bufconn.Listen(1 << 16)
				seen := &watcher{answer: func(public any) *enrolmentpb.Certificate { return tc.answer(t, h, public) }}
				server := grpc.NewServer(grpc.Creds(identity.Credentials(h.who.AnonymousTLSConfig(), func(error) {})))
				enrolmentpb.RegisterEnrolmentServer(server, seen)
				done := make(chan error, 1)
				go func() { done <- server.Serve(listener) }()
				options.Dial = seen.dial(listener)
				agent := newAgent(t, options)
				stop := run(t, agent)
				pass(time.Minute)
				state := agent.State()
				stop()
				server.Stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if state.Problem == nil || !strings.Contains(state.Problem.Error(), tc.want) || state.ID != (identity.ID{}) {
					t.Errorf("%s\ngot %+v, want an error with %q", tc.reason, state, tc.want)
				}
				if _, err := os.Stat(options.Dir); !errors.Is(err, fs.ErrNotExist) {
					t.Error("something was kept")
				}
			})
		})
	}
}

// TestAgentKept changes what is on the disk.
func TestAgentKept(t *testing.T) {
	var text []byte
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		agent := newAgent(t, options)
		stop := run(t, agent)
		<-agent.Ready()
		stop()
		var err error
		if text, err = os.ReadFile(filepath.Join(options.Dir, "identity.json")); err != nil {
			t.Fatal(err)
		}
	})
	for name, tc := range map[string]struct {
		reason string
		change func([]byte) []byte
		role   identity.Role
		want   string
	}{
		"Good":      {reason: "The others differ from this in one thing.", change: func(b []byte) []byte { return b }},
		"Cut":       {reason: "Half a file; and nothing of it is shown.", change: func(b []byte) []byte { return b[:len(b)/2] }, want: "not what an agent writes"},
		"Empty":     {reason: "Nothing.", change: func([]byte) []byte { return nil }, want: "not what an agent writes"},
		"Key":       {reason: "No key.", change: func(b []byte) []byte { return bytes.Replace(b, []byte("PRIVATE KEY"), []byte("PUBLIC KEY"), 2) }, want: "Remove it, and enroll again"},
		"Roots":     {reason: "Nobody to trust.", change: func(b []byte) []byte { return bytes.Replace(b, []byte(`"roots"`), []byte(`"x"`), 1) }, want: "the roots"},
		"OtherRole": {reason: "The directory of another program.", change: func(b []byte) []byte { return b }, role: identity.RoleDNS, want: "wanted is the role dns"},
		"Huge":      {reason: "Not read into memory.", change: func([]byte) []byte { return make([]byte, 2<<20) }, want: "more than an identity can have"},
	} {
		t.Run(name, func(t *testing.T) {
			options := enrolment.AgentOptions{Dir: t.TempDir(), Role: identity.RoleGateway}
			if tc.role != "" {
				options.Role = tc.role
			}
			write(t, options.Dir, "identity.json", string(tc.change(text)))
			_, err := enrolment.NewAgent(options)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s\ngot %v, want an error with %q", tc.reason, err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "MIG") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}
