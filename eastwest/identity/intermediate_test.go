package identity_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

const day = 24 * time.Hour

// signer returns the certificate of the authority that signed what is in a Secret.
func signer(t *testing.T, s *corev1.Secret) *x509.Certificate {
	t.Helper()
	chain := certificate(t, s).Certificates
	if len(chain) != 2 {
		t.Fatalf("%s shows %d certificates, want a leaf and an intermediate", s.Name, len(chain))
	}
	return chain[1]
}

func TestIntermediate(t *testing.T) {
	c := newClock()
	host := newHost(t)
	keeper := newKeeper(host, c)
	keep(t, keeper)
	root := readAuthority(t, host, c)
	first := signer(t, read(t, host, identity.AdminSecret))
	if first.Equal(root.Certificate()) || first.CheckSignatureFrom(root.Certificate()) != nil || !first.MaxPathLenZero {
		t.Error("leaves are not signed by an authority below the root that signs leaves only")
	}
	if got := first.NotAfter.Sub(c.Now()); got != identity.IntermediateLifetime {
		t.Errorf("the intermediate is good for %s", got)
	}

	c.Add(29 * day)
	keep(t, keeper)
	if !signer(t, read(t, host, identity.AdminSecret)).Equal(first) {
		t.Error("the intermediate was replaced before a third of its life was gone")
	}
	late := signWith(t, host, c)
	c.Add(day)
	keep(t, keeper)
	c.Add(day) // the admin's certificate is due
	keep(t, keeper)
	if signer(t, read(t, host, identity.AdminSecret)).Equal(first) {
		t.Error("the intermediate was not replaced after a third of its life")
	}
	if _, _, err := x509svid.Verify(late, root.Bundle(), x509svid.WithTime(c.Now().Add(28*day))); err != nil {
		t.Error("what the old intermediate signed last is not good to its end: ", err)
	}
	if !readAuthority(t, host, c).Certificate().Equal(root.Certificate()) {
		t.Error("the root changed with its intermediate")
	}
}

// signWith has the hub sign a certificate for 30 days, as it does for who enrolls.
func signWith(t *testing.T, host clientReader, c *clock) []*x509.Certificate {
	t.Helper()
	server := newServer(t, c, host)
	svid := issueBy(t, server, identity.ClusterID(domain, "m1", identity.RoleGateway))
	return svid.Certificates
}

// TestUpgrade begins with the Secrets of a hub that knew no intermediates.
func TestUpgrade(t *testing.T) {
	c := newClock()
	cert, key := authorityPEM(t, c, func(r *x509.Certificate) { r.NotAfter = c.Now().Add(identity.AuthorityLifetime) })
	old := secret(identity.AuthoritySecret, cert, key)
	old.Labels = map[string]string{"hansa.dev/identity": "authority", "app.kubernetes.io/managed-by": "hansa.dev"}
	old.Data["ca.crt"] = cert
	host := newHost(t, old, member("m1", "u1"))
	root := readAuthority(t, host, c)

	// A replica that comes before there is an intermediate must not wait for a leader that knows none either.
	chain := signWith(t, host, c)
	if len(chain) != 1 || chain[0].CheckSignatureFrom(root.Certificate()) != nil {
		t.Error("a replica that was upgraded first does not sign as the old ones do")
	}
	keep(t, newKeeper(host, c))
	keep(t, newKeeper(host, c))
	if got := read(t, host, identity.AuthoritySecret); string(got.Data["tls.crt"]) != string(cert) || string(got.Data["ca.crt"]) != string(cert) {
		t.Error("the old root is not the root any more")
	}
	after := signWith(t, host, c)
	if len(after) != 2 {
		t.Error("leaves are not signed by an intermediate after the upgrade")
	}
	for name, chain := range map[string][]*x509.Certificate{"before": chain, "after": after} {
		if _, _, err := x509svid.Verify(chain, root.Bundle(), x509svid.WithTime(c.Now())); err != nil {
			t.Errorf("signed %s the upgrade: %v", name, err)
		}
	}
	if err := host.Delete(t.Context(), read(t, host, identity.IntermediateSecret)); err != nil {
		t.Fatal(err)
	}
	server := identity.NewServer(identity.ServerOptions{Reader: host, Namespace: namespace, Now: c.Now})
	if err := server.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "the leading hub makes it") {
		t.Errorf("once there was an intermediate, the root signs a leaf: %v", err)
	}
}

// TestKeepIntermediate changes what is in the Secret of the intermediate.
func TestKeepIntermediate(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		change  func(t *testing.T, c *clock, live *corev1.Secret)
		same    bool
		wantErr string
	}{
		"Good":    {reason: "The others differ from this in one thing.", change: func(*testing.T, *clock, *corev1.Secret) {}, same: true},
		"Damaged": {reason: "It is ours, and nothing depends on this one: another is as good.", change: func(_ *testing.T, _ *clock, s *corev1.Secret) { s.Data["tls.key"] = []byte("x") }},
		"Empty":   {reason: "It is ours.", change: func(_ *testing.T, _ *clock, s *corev1.Secret) { s.Data = nil }},
		"OtherRoot": {reason: "What it signs would lead nowhere.", change: func(t *testing.T, c *clock, s *corev1.Secret) {
			_, other := stored(t, c)
			below, err := other.NewIntermediate()
			if err != nil {
				t.Fatal(err)
			}
			s.Data["tls.crt"] = pemOf(below.Certificate())
		}},
		"Foreign": {
			reason: "It is not ours.", change: func(_ *testing.T, _ *clock, s *corev1.Secret) { s.Labels = nil },
			same: true, wantErr: "left alone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			host, root := stored(t, c)
			live := read(t, host, identity.IntermediateSecret)
			tc.change(t, c, live)
			before := string(live.Data["tls.crt"]) + string(live.Data["tls.key"])
			if err := host.Update(t.Context(), live); err != nil {
				t.Fatal(err)
			}
			problems := newKeeper(host, c).Keep(t.Context())
			if err := problems["the authority"]; tc.wantErr == "" && len(problems) > 0 || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Fatalf("%s\ngot %v, want an error with %q", tc.reason, problems, tc.wantErr)
			}
			live = read(t, host, identity.IntermediateSecret)
			if same := string(live.Data["tls.crt"])+string(live.Data["tls.key"]) == before; same != tc.same {
				t.Errorf("%s\nthe same: %t, want %t", tc.reason, same, tc.same)
			}
			if tc.wantErr != "" {
				return
			}
			if _, err := root.ParseIntermediate(live.Data["tls.crt"], live.Data["tls.key"]); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoRoomForIntermediate: a root that somebody brought may have path length 0.
func TestNoRoomForIntermediate(t *testing.T) {
	c := newClock()
	cert, key := authorityPEM(t, c, func(r *x509.Certificate) { r.MaxPathLenZero = true })
	host := newHost(t, secret(identity.AuthoritySecret, cert, key))
	keep(t, newKeeper(host, c))
	chain := signWith(t, host, c)
	if len(chain) != 1 {
		t.Errorf("%d certificates, want one that the root signed", len(chain))
	}
	if _, err := readAuthority(t, host, c).NewIntermediate(); err == nil || !strings.Contains(err.Error(), "path length") {
		t.Errorf("there is an intermediate that nobody accepts: %v", err)
	}
}
