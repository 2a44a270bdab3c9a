package identity_test

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

var domain = identity.DefaultTrustDomain()

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		id      string
		want    identity.ID
		wantErr string
	}{
		"Hub":           {reason: "All hubs are one.", id: "spiffe://clusterset.local/hub", want: identity.HubID(domain)},
		"Admin":         {reason: "Admins are in no cluster.", id: "spiffe://clusterset.local/admin", want: identity.AdminID(domain)},
		"Client":        {reason: "The usual case.", id: "spiffe://clusterset.local/cluster/m1/client", want: identity.ClusterID(domain, "m1", identity.RoleClient)},
		"Gateway":       {reason: "Another role.", id: "spiffe://clusterset.local/cluster/m1/gateway", want: identity.ClusterID(domain, "m1", identity.RoleGateway)},
		"ClusterNamed":  {reason: "A cluster may be called anything.", id: "spiffe://clusterset.local/cluster/hub/dns", want: identity.ClusterID(domain, "hub", identity.RoleDNS)},
		"OtherDomain":   {reason: "Whether a domain is trusted is not the parser's business.", id: "spiffe://other.org/hub", want: identity.HubID(spiffeid.RequireTrustDomainFromString("other.org"))},
		"NoPath":        {reason: "The ID of the authority is nobody's.", id: "spiffe://clusterset.local", wantErr: "names nobody"},
		"Short":         {reason: "No role.", id: "spiffe://clusterset.local/cluster/m1", wantErr: "names nobody"},
		"Long":          {reason: "What is longer may mean something in a later version, and must not mean less now.", id: "spiffe://clusterset.local/cluster/m1/client/x", wantErr: "names nobody"},
		"HubLong":       {reason: "A path under hub is not the hub.", id: "spiffe://clusterset.local/hub/x", wantErr: "names nobody"},
		"AdminCluster":  {reason: "An admin of a cluster does not exist, and must not become an admin.", id: "spiffe://clusterset.local/cluster/m1/admin", wantErr: "role \"admin\""},
		"HubCluster":    {reason: "A member must not pass for a hub.", id: "spiffe://clusterset.local/cluster/m1/hub", wantErr: "role \"hub\""},
		"UnknownRole":   {reason: "A typo grants nothing.", id: "spiffe://clusterset.local/cluster/m1/clients", wantErr: "role \"clients\""},
		"UpperCase":     {reason: "Cluster ids are DNS labels.", id: "spiffe://clusterset.local/cluster/M1/client", wantErr: "no DNS label"},
		"Dot":           {reason: "Cluster ids are DNS labels.", id: "spiffe://clusterset.local/cluster/a.b/client", wantErr: "no DNS label"},
		"UpperSegment":  {reason: "Paths are case-sensitive.", id: "spiffe://clusterset.local/Cluster/m1/client", wantErr: "names nobody"},
		"Empty":         {reason: "No ID.", id: "", wantErr: "empty"},
		"EmptySegment":  {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local/cluster//client", wantErr: "empty segments"},
		"TrailingSlash": {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local/hub/", wantErr: "trailing slash"},
		"DotSegment":    {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local/cluster/../hub", wantErr: "dot segments"},
		"Escaped":       {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local/h%75b", wantErr: "characters"},
		"OtherScheme":   {reason: "Not a SPIFFE ID.", id: "https://clusterset.local/hub", wantErr: "scheme"},
		"Query":         {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local/hub?x=1", wantErr: "characters"},
		"Port":          {reason: "SPIFFE forbids it.", id: "spiffe://clusterset.local:1/hub", wantErr: "characters"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identity.ParseString(tc.id)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%s\ngot %v, %v; want an error with %q", tc.reason, got, err, tc.wantErr)
				}
				if got != (identity.ID{}) {
					t.Errorf("%s\nbeside the error there is %v", tc.reason, got)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Fatalf("%s\ngot %v, %v; want %v", tc.reason, got, err, tc.want)
			}
			if got.String() != tc.id {
				t.Errorf("%s\nwritten again: %s", tc.reason, got)
			}
		})
	}
}

func TestSPIFFE(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		id     identity.ID
	}{
		"Zero":      {reason: "Nobody.", id: identity.ID{}},
		"NoDomain":  {reason: "An identity is one of a trust domain.", id: identity.ID{Role: identity.RoleHub}},
		"NoCluster": {reason: "A client is in a cluster.", id: identity.ID{TrustDomain: domain, Role: identity.RoleClient}},
		"HubIn":     {reason: "A hub is in none.", id: identity.ClusterID(domain, "m1", identity.RoleHub)},
		"Slash":     {reason: "A cluster's id must not add to the path.", id: identity.ClusterID(domain, "m1/admin", identity.RoleClient)},
		"Parent":    {reason: "Nor go up in it.", id: identity.ClusterID(domain, "..", identity.RoleClient)},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := tc.id.SPIFFE(); err == nil {
				t.Errorf("%s\ngot %s", tc.reason, got)
			}
			if got := tc.id.String(); !strings.HasPrefix(got, "no identity") {
				t.Errorf("%s\nString: %s", tc.reason, got)
			}
		})
	}
}

// FuzzParse checks that whatever is accepted is written in the same way again, and says no more than it should.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"spiffe://clusterset.local/hub", "spiffe://clusterset.local/admin", "spiffe://clusterset.local/cluster/m1/client",
		"spiffe://a/cluster/admin/gateway", "spiffe://clusterset.local/cluster/../hub", "spiffe://x/cluster/a/dns/", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := identity.ParseString(text)
		if err != nil {
			return
		}
		again, err := identity.ParseString(id.String())
		if err != nil || again != id {
			t.Fatalf("%q gives %v, which gives %v, %v", text, id, again, err)
		}
		if id.Cluster == "" && !id.Admin() && !id.Hub() {
			t.Fatalf("%q gives %v, which is nowhere", text, id)
		}
		if id.Cluster != "" && (id.Admin() || id.Hub() || strings.ContainsAny(id.Cluster, "/.")) {
			t.Fatalf("%q gives %v, which is too much for a cluster", text, id)
		}
	})
}
