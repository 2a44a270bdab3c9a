package identity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

// TestKeepRevoked: the certificate of a cluster that was revoked is made anew once, and that of others, and of admins, is not.
func TestKeepRevoked(t *testing.T) {
	c := newClock()
	host := newHost(t, member("m1.example", "u1"), member("m2", "u2"))
	var before time.Time
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now,
		ClusterID: func(name string) (string, bool) { return strings.ReplaceAll(name, ".", "-"), true },
		Revoked: func(cluster string, issued time.Time) bool {
			return (cluster == "m1-example" || cluster == "") && issued.Before(before)
		},
	})
	serials := func() [3]string {
		t.Helper()
		keep(t, keeper)
		var all [3]string
		for i, name := range []string{"hansa-xds-client-m1.example", "hansa-xds-client-m2", identity.AdminSecret} {
			all[i] = certificate(t, read(t, host, name)).Certificates[0].SerialNumber.String()
		}
		return all
	}
	first := serials()
	c.Add(time.Hour)
	if serials() != first {
		t.Error("made anew for no reason")
	}
	before = c.Now()
	second := serials()
	if second[0] == first[0] || second[1] != first[1] || second[2] != first[2] {
		t.Errorf("after the revocation: %v, before: %v", second, first)
	}
	if serials() != second {
		t.Error("made anew again, though the new one is good")
	}
	before = c.Now().Add(time.Hour)
	if serials() != second {
		t.Error("made anew, though the next one would be revoked as well")
	}
	c.Add(time.Hour)
	if third := serials(); third[0] == second[0] {
		t.Error("not made anew once the next one is good")
	}
}
