package enrolment_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// leafOf returns the certificate that a hub gave.
func leafOf(t *testing.T, answer *enrolmentpb.Certificate, err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(answer.GetChain())
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestOutrun: who renews each second until the hub has heard of a revocation is revoked all the same, and who proves anew who
// it is is not.
func TestOutrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := newHub(t, nil)
		defer stop()
		answer, err := h.server.Enroll(from("192.0.2.1"), byToken(t, h.token("m1.example")))
		first := leafOf(t, answer, err)
		thief := first
		renew := func() {
			answer, err := h.server.Renew(showing(thief), &enrolmentpb.RenewRequest{Request: csr(t)})
			thief = leafOf(t, answer, err)
		}
		pass(time.Hour)
		renew()
		before := time.Now()
		for range 10 { // the hub has not heard of it
			pass(time.Second)
			renew()
		}
		if !identity.Signed(thief).Equal(time.Now()) || !identity.Issued(thief).Equal(identity.Issued(first)) {
			t.Errorf("signed %s, it counts from %s, the first from %s", identity.Signed(thief), identity.Issued(thief), identity.Issued(first))
		}
		h.set(func(h *hub) { h.revoked["m1"] = before })
		if _, err := h.server.Renew(showing(thief), &enrolmentpb.RenewRequest{Request: csr(t)}); codeOf(nil, err) != "Unauthenticated" {
			t.Errorf("the revocation was outrun: %v", err)
		}
		pass(time.Second)
		answer, err = h.server.Enroll(from("192.0.2.1"), byAccount(t, "m1.example", goodToken+" in m1.example"))
		honest := leafOf(t, answer, err)
		if _, err := h.server.Renew(showing(honest), &enrolmentpb.RenewRequest{Request: csr(t)}); err != nil {
			t.Errorf("who has proved anew who it is does not come back: %v", err)
		}
	})
}

// TestRenewOld: a certificate that does not say when its holder proved who it is was signed then, and those renewed from it say so.
func TestRenewOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := newHub(t, nil)
		defer stop()
		old := certificateOf(t, h, identity.ClusterID(identity.DefaultTrustDomain(), "m1", identity.RoleGateway)).Leaf
		pass(time.Hour)
		answer, err := h.server.Renew(showing(old), &enrolmentpb.RenewRequest{Request: csr(t)})
		if next := leafOf(t, answer, err); !identity.Issued(next).Equal(identity.Signed(old)) {
			t.Errorf("it counts from %s, want %s", identity.Issued(next), identity.Signed(old))
		}
	})
}

// TestRenewUnverified: nothing is copied from a certificate that the handshake did not verify.
func TestRenewUnverified(t *testing.T) {
	h, stop := newHub(t, func(o *enrolment.Options) {
		o.Identify = func(*peer.Peer) (identity.ID, error) {
			return identity.ClusterID(identity.DefaultTrustDomain(), "m1", identity.RoleGateway), nil
		}
	})
	defer stop()
	for reason, ctx := range map[string]context.Context{"no TLS": from("192.0.2.1"), "nobody": t.Context()} {
		if _, err := h.server.Renew(ctx, &enrolmentpb.RenewRequest{Request: csr(t)}); codeOf(nil, err) != "Unauthenticated" {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

// TestAgentLong: an agent that has renewed for longer than a certificate lasts starts again with what it kept.
func TestAgentLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		agent := newAgent(t, options)
		stop := run(t, agent)
		passDays(h, 40)
		stop()
		options.AccountTokenFile = ""
		<-newAgent(t, options).Ready()
	})
}
