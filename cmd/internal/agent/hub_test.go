package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	webName = "web.shop.svc.clusterset.local."
	dbName  = "db.shop.svc.clusterset.local."
)

// hub is what agents see of one: its table, and who it trusts.
type hub struct {
	t         *testing.T
	authority *identity.Authority
	builder   *clusterset.Builder
	latest    *clusterset.Latest
	address   string
	stop      func()
}

func newHub(t *testing.T) *hub {
	t.Helper()
	authority, err := identity.NewAuthority(identity.DefaultTrustDomain(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, authority: authority, builder: clusterset.NewBuilder(1000), address: "127.0.0.1:0", stop: func() {}}
	for _, id := range []string{"m1", "m2"} {
		h.builder.SetCluster(clusterset.Cluster{ID: id, Network: "flat"})
	}
	ports := []clusterset.Port{{Name: "http", Port: 80}}
	h.builder.SetExport("m1", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Export{Properties: &clusterset.Properties{Ports: ports}})
	h.builder.SetImport("m1", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}})
	h.builder.SetImport("m2", clusterset.Key{Namespace: "shop", Name: "web"}, clusterset.Import{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.97.0.9")}})
	h.builder.SetExport("m2", clusterset.Key{Namespace: "shop", Name: "db"}, clusterset.Export{Properties: &clusterset.Properties{Ports: ports, Headless: true}})
	h.latest = clusterset.NewLatest(h.builder.Publish())
	h.pod("10.2.0.7")
	return h
}

// pod has the headless service be one pod.
func (h *hub) pod(address string) {
	h.builder.SetEndpoints("m2", clusterset.Key{Namespace: "shop", Name: "db"}, clusterset.Endpoints{Groups: []clusterset.Group{{
		Ports:     []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}},
		Endpoints: []clusterset.Endpoint{{Addr: netip.MustParseAddr(address), Conditions: clusterset.Ready | clusterset.Serving}},
	}}})
	h.latest.Publish(h.builder.Publish())
}

// start serves, at the same address as before.
func (h *hub) start() {
	h.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(h.t.Context(), "tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.address = listener.Addr().String()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.authority.BundlePEM())
	own, err := tls.X509KeyPair(h.issue(identity.HubID(h.authority.TrustDomain())))
	if err != nil {
		h.t.Fatal(err)
	}
	server := ads.New(ads.Config{
		Kinds: xds.Kinds(), Log: logr.Discard(),
		Source: xds.NewSource(xds.Options{Snapshots: h.latest, Log: logr.Discard(), Identify: func(p *peer.Peer) (xds.Identity, error) {
			id, err := identity.Identify(p)
			return xds.Identity{Cluster: id.Cluster, Role: string(id.Role), Name: id.String()}, err
		}}),
		Credentials: credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
		}),
	})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	h.stop = sync.OnceFunc(func() {
		server.Close()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
}

func (h *hub) issue(id identity.ID) (certPEM, keyPEM []byte) {
	h.t.Helper()
	var spiffe spiffeid.ID
	spiffe, err := id.SPIFFE()
	if err != nil {
		h.t.Fatal(err)
	}
	certPEM, keyPEM, err = h.authority.Issue(spiffe, nil, nil, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return certPEM, keyPEM
}

// certify writes the certificate of clients in a cluster, as `hansa xds bootstrap` does.
func (h *hub) certify(cluster, dir string) {
	h.t.Helper()
	certPEM, keyPEM := h.issue(identity.ClusterID(h.authority.TrustDomain(), cluster, identity.RoleClient))
	for name, text := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM, "ca.crt": h.authority.BundlePEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// startsWithin starts the program, and holds that it answers so soon. A busy machine gets some attempts; the best counts.
func startsWithin(t *testing.T, limit time.Duration, name, want string, flags []string) *program {
	t.Helper()
	const attempts = 12
	for i := range attempts {
		p := run(t, flags...)
		got, took := p.ask("udp", name), time.Since(p.began)
		t.Logf("from its start to its first answer, without a hub: %v", took)
		if got != want {
			t.Fatalf("without a hub: %q, want %q", got, want)
		}
		if took <= limit {
			return p
		}
		if i == attempts-1 {
			t.Errorf("it takes more than %v from its start to its first answer", limit)
			return p
		}
		p.stop()
	}
	return nil
}

// TestStrangeStarts looks at what is logged when nothing is well.
func TestStrangeStarts(t *testing.T) {
	h, certificates := newHub(t), t.TempDir()
	h.certify("m1", certificates)
	h.start()
	h.stop()
	flags := []string{"--hub", h.address, "--tls-dir", certificates, "--cluster", "m1"}
	p := run(t, append(flags, "--source", "10.0.0/8=m1")...)
	p.wait()
	if log := p.log(); !strings.Contains(log, "is no network") || strings.Contains(log, "Nothing is kept") {
		t.Errorf("a flag that is wrong is the only thing to say:\n%s", log)
	}
	p = run(t, flags...)
	p.says("Nothing is kept for when no hub answers")
	p.says("There is no hub at the moment", "lastHeard:never")
	p.stop()
}

// TestHubAndDisk tells the life of a server: fed by a hub, started again without one, from a file that is broken, and with a
// hub that is back.
func TestHubAndDisk(t *testing.T) {
	h, certificates, state := newHub(t), t.TempDir(), filepath.Join(t.TempDir(), "state")
	h.certify("m1", certificates)
	h.start()
	flags := []string{"--hub", h.address, "--tls-dir", certificates, "--state-dir", state, "--cluster", "m1", "--source", "127.0.0.2=m2"}

	p := run(t, flags...)
	p.until(webName, "NOERROR 10.96.0.9")
	p.until(dbName, "NOERROR 10.2.0.7")
	h.pod("10.2.0.8")
	p.until(dbName, "NOERROR 10.2.0.8")
	if got := p.get("/readyz"); got != "200 ok\n" {
		t.Errorf("/readyz: %s", got)
	}
	if got := p.get("/metrics"); !strings.Contains(got, "hansa_feed_connected 1\n") || !strings.Contains(got, "hansa_dns_stale 0\n") {
		t.Errorf("the metrics do not say that a hub answers:\n%s", got)
	}
	p.stop()
	h.stop()

	// Everything else is gone. Not even the certificate is there.
	if err := os.RemoveAll(certificates); err != nil {
		t.Fatal(err)
	}
	p = startsWithin(t, slowdown*200*time.Millisecond, dbName, "NOERROR 10.2.0.8 EDE 3", flags)
	if got := p.get("/readyz"); got != "200 ok\n" {
		t.Errorf("/readyz without a hub: %s", got)
	}
	if got := p.get("/metrics"); !strings.Contains(got, "hansa_feed_connected 0\n") || !strings.Contains(got, "hansa_dns_stale 1\n") {
		t.Errorf("the metrics do not say that no hub answers:\n%s", got)
	}

	// It takes up the hub and the certificate when they are there again, by itself.
	h.start()
	p.says("There is no hub at the moment", "ca.crt")
	if err := os.Mkdir(certificates, 0o700); err != nil {
		t.Fatal(err)
	}
	h.certify("m1", certificates)
	p.until(dbName, "NOERROR 10.2.0.8")
	p.says("Answers are up to date")
	p.stop()
	h.stop()

	// A file that is broken is put aside.
	if err := os.WriteFile(filepath.Join(state, "snapshot"), []byte("HANSAFEED and nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = run(t, flags...)
	if got := p.ask("udp", dbName); got != "SERVFAIL EDE 14" {
		t.Errorf("from a broken file: %q", got)
	}
	p.says("The saved snapshot is not used", "snapshot.corrupt")
	if got := p.get("/readyz"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("/readyz while nothing is known: %s", got)
	}
	h.start()
	p.until(dbName, "NOERROR 10.2.0.8")
	p.stop()
}
