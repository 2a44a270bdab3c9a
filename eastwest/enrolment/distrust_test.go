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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

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

// FuzzKept: whatever is in the directory, an agent starts with what it wrote itself, or says that it cannot.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"key":"","chain":"","roots":""}`))
	f.Add([]byte(`{"key":"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----","chain":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"}`))
	f.Add([]byte("[]"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		write(t, dir, "identity.json", string(text))
		agent, err := enrolment.NewAgent(enrolment.AgentOptions{Dir: dir, Role: identity.RoleGateway})
		if err != nil {
			return
		}
		if svid, err := agent.GetX509SVID(); err != nil || svid.PrivateKey == nil {
			t.Errorf("it holds %v, %v", svid, err)
		}
	})
}
