package identity_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// agent holds what an agent does: a certificate, and the roots that came with it. It renews once a day.
type agent struct {
	mu     sync.Mutex
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

func (a *agent) GetX509SVID() (*x509svid.SVID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.svid, nil
}

func (a *agent) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle.GetX509BundleForTrustDomain(td)
}

func (a *agent) renew(t *testing.T, issuer identity.Issuer, cluster string) {
	t.Helper()
	svid := issueBy(t, issuer, gateway(cluster))
	bundle, err := x509bundle.Parse(domain, issuer.BundlePEM())
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.svid, a.bundle = svid, bundle
}

func annotate(t *testing.T, host client.Client, key, value string) {
	t.Helper()
	live := read(t, host, identity.AuthoritySecret)
	if live.Annotations == nil {
		live.Annotations = map[string]string{}
	}
	live.Annotations[key] = value
	if err := host.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
}

func roots(s *corev1.Secret) int { return bytes.Count(s.Data["ca.crt"], []byte("BEGIN CERTIFICATE")) }

// TestRotation replaces the root under agents that renew on some days, each at least once while its certificate is good, or
// never again. Whenever two have certificates that have not ended, they accept each other; and a connection from before the
// rotation is there after it.
func TestRotation(t *testing.T) {
	c := newClock()
	host, root := stored(t, c)
	keeper, hub := newKeeper(host, c), newServer(t, c, host)
	random := rand.New(rand.NewPCG(1, 2))
	agents := make([]*agent, 6)
	for i := range agents {
		agents[i] = &agent{}
		agents[i].renew(t, hub, fmt.Sprintf("m%d", i))
	}
	live := connect(t, c, agents[0], agents[1])

	annotate(t, host, identity.RotateAnnotation, "because")
	var steps []string
	for today := range 100 {
		keep(t, keeper)
		if err := hub.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d trusted, old root signs: %t", roots(read(t, host, identity.AuthoritySecret)), readAuthority(t, host, c).Certificate().Equal(root.Certificate())); len(steps) == 0 || steps[len(steps)-1] != got {
			steps = append(steps, got)
		}
		for i, a := range agents {
			// The first renews daily; the others now and then, the last ones less than once in a life.
			if random.IntN(1+i*8) == 0 {
				a.renew(t, hub, fmt.Sprintf("m%d", i))
			}
		}
		checkAll(t, c, agents, today)
		live.echo(t)
		c.Add(day)
	}
	if want := []string{"2 trusted, old root signs: true", "2 trusted, old root signs: false", "1 trusted, old root signs: false"}; strings.Join(steps, "\n") != strings.Join(want, "\n") {
		t.Errorf("steps:\n%s\nwant:\n%s", strings.Join(steps, "\n"), strings.Join(want, "\n"))
	}
	if left := read(t, host, identity.AuthoritySecret); left.Annotations[identity.RotateAnnotation] != "" || len(left.Data) != 3 {
		t.Errorf("the rotation left annotations %v and %d keys", left.Annotations, len(left.Data))
	}
}

// checkAll lets everybody whose certificate is good look at those of all others.
func checkAll(t *testing.T, c *clock, agents []*agent, today int) {
	t.Helper()
	for i, from := range agents {
		for j, to := range agents {
			if from.svid.Certificates[0].NotAfter.Before(c.Now()) || to.svid.Certificates[0].NotAfter.Before(c.Now()) {
				continue
			}
			if _, _, err := x509svid.Verify(to.svid.Certificates, from.bundle, x509svid.WithTime(c.Now())); err != nil {
				t.Fatalf("day %d: agent %d does not accept agent %d: %v", today, i, j, err)
			}
		}
	}
}

// link is a TLS connection between two agents.
type link struct{ near, far *tls.Conn }

func connect(t *testing.T, c *clock, from, to *agent) link {
	t.Helper()
	left, right := net.Pipe()
	t.Cleanup(func() { _ = left.Close(); _ = right.Close() })
	dialer := identity.Peering{Own: from, Roots: from, ALPN: []string{alpn}, Now: c.Now}
	listener := identity.Peering{Own: to, Roots: to, ALPN: []string{alpn}, Now: c.Now}
	l := link{tls.Client(left, dialer.PeerConfig("m1")), tls.Server(right, listener.ServerConfig())}
	done := make(chan error, 1)
	go func() { done <- l.far.Handshake() }()
	if err := errors.Join(l.near.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l link) echo(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	if err := errors.Join(l.near.SetDeadline(deadline), l.far.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyN(l.far, l.far, 4)
		done <- err
	}()
	_, err := l.near.Write([]byte("ping"))
	got := make([]byte, 4)
	_, readErr := io.ReadFull(l.near, got)
	if err := errors.Join(err, readErr, <-done); err != nil || string(got) != "ping" {
		t.Fatalf("a connection from before the rotation: %q, %v", got, err)
	}
}

// TestRotationConnects makes new connections, by either root, in the middle of a rotation.
func TestRotationConnects(t *testing.T) {
	c := newClock()
	host, _ := stored(t, c)
	keeper, hub := newKeeper(host, c), newServer(t, c, host)
	annotate(t, host, identity.RotateAnnotation, "1")
	keep(t, keeper)
	c.Add(identity.Overlap - day)
	keep(t, keeper)
	if err := hub.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, young := &agent{}, &agent{}
	old.renew(t, hub, "m1")
	c.Add(day)
	keep(t, keeper)
	if err := hub.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	young.renew(t, hub, "m1")
	if bytes.Equal(old.svid.Certificates[1].AuthorityKeyId, young.svid.Certificates[1].AuthorityKeyId) {
		t.Fatal("both are below the same root")
	}
	connect(t, c, old, young).echo(t)
	connect(t, c, young, old).echo(t)
	// The hub has a certificate below the new root; an agent that has not renewed yet connects with its old one.
	hubClient := identity.HubClient{Own: old, Roots: old, Now: c.Now}
	if _, _, serverErr, clientErr := handshake(t, hub.TLSConfig(), hubClient.Config()); serverErr != nil || clientErr != nil {
		t.Error("the hub in a rotation: ", serverErr, clientErr)
	}
}

func TestRotationBegins(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		before  func(t *testing.T, host client.Client, c *clock)
		want    int // trusted roots
		wantErr string
	}{
		"Asked":     {reason: "By annotation.", before: func(t *testing.T, h client.Client, _ *clock) { annotate(t, h, identity.RotateAnnotation, "x") }, want: 2},
		"NotAsked":  {reason: "Nobody did.", before: func(*testing.T, client.Client, *clock) {}, want: 1},
		"Old":       {reason: "A fifth of ten years is left.", before: func(_ *testing.T, _ client.Client, c *clock) { c.Add(identity.AuthorityLifetime*4/5 + day) }, want: 2},
		"NotYetOld": {reason: "More than a fifth is left.", before: func(_ *testing.T, _ client.Client, c *clock) { c.Add(identity.AuthorityLifetime*4/5 - day) }, want: 1},
		"Brought": {
			reason: "Who brought the root replaces it.", want: 1, wantErr: "not Hansa's",
			before: func(t *testing.T, h client.Client, _ *clock) {
				live := read(t, h, identity.AuthoritySecret)
				live.Labels, live.Annotations = nil, map[string]string{identity.RotateAnnotation: "x"}
				if err := h.Update(t.Context(), live); err != nil {
					t.Fatal(err)
				}
			},
		},
		"NoTime": {
			reason: "Without the time of the last step, the next one could come too early.", want: 2, wantErr: "has to be a time",
			before: func(t *testing.T, h client.Client, c *clock) {
				annotate(t, h, identity.RotateAnnotation, "x")
				keep(t, newKeeper(h, c))
				annotate(t, h, "hansa.dev/next-root-trusted-since", "yesterday")
			},
		},
		"NextDamaged": {
			reason: "What nobody can sign with must not become the root.", want: 2, wantErr: "next.crt",
			before: func(t *testing.T, h client.Client, c *clock) {
				annotate(t, h, identity.RotateAnnotation, "x")
				keep(t, newKeeper(h, c))
				setData(t, h, identity.AuthoritySecret, "next.key", []byte("x"))
				c.Add(identity.Overlap)
			},
		},
		"NextNotTrusted": {
			reason: "Somebody took it out of the trusted ones.", want: 1, wantErr: "not among the trusted",
			before: func(t *testing.T, h client.Client, c *clock) {
				annotate(t, h, identity.RotateAnnotation, "x")
				keep(t, newKeeper(h, c))
				setData(t, h, identity.AuthoritySecret, "ca.crt", read(t, h, identity.AuthoritySecret).Data["tls.crt"])
				c.Add(identity.Overlap)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			host, _ := stored(t, c)
			tc.before(t, host, c)
			problems := newKeeper(host, c).Keep(t.Context())
			if err := problems["the root"]; tc.wantErr == "" && len(problems) > 0 || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%s\ngot %v, want an error with %q", tc.reason, problems, tc.wantErr)
			}
			if got := roots(read(t, host, identity.AuthoritySecret)); got != tc.want {
				t.Errorf("%s\n%d roots are trusted, want %d", tc.reason, got, tc.want)
			}
			// Whatever happens to the root, certificates are kept.
			svid := certificate(t, read(t, host, identity.AdminSecret))
			if _, _, err := x509svid.Verify(svid.Certificates, readAuthority(t, host, c).Bundle(), x509svid.WithTime(c.Now())); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRotationSurvivesDeletion: what is put back has the next root too.
func TestRotationSurvivesDeletion(t *testing.T) {
	c := newClock()
	host, _ := stored(t, c)
	keeper := newKeeper(host, c)
	annotate(t, host, identity.RotateAnnotation, "x")
	keep(t, keeper)
	before := read(t, host, identity.AuthoritySecret)
	if err := host.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	keep(t, keeper)
	after := read(t, host, identity.AuthoritySecret)
	for key := range before.Data {
		if !bytes.Equal(before.Data[key], after.Data[key]) {
			t.Errorf("%s is another", key)
		}
	}
	if after.Annotations["hansa.dev/next-root-trusted-since"] == "" {
		t.Error("when the next root was introduced is forgotten")
	}
}

var _ x509svid.Source = (*agent)(nil)
