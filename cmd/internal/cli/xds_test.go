package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	grpcxds "google.golang.org/grpc/xds"
	xdsbootstrap "google.golang.org/grpc/xds/bootstrap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/api"
)

// hub is a host cluster in memory, with certificates, and a hub that answers who is connected.
type hub struct {
	*host
	server *identity.Server
	addr   string
}

func newHub(t *testing.T, clients ...ads.ClientState) *hub {
	t.Helper()
	h, err := newWorld(Hansa, "kind: Namespace\napiVersion: v1\nmetadata: {name: x}")
	if err != nil {
		t.Fatal(err)
	}
	member := &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: api.DefaultNamespace, Name: "m1"}}
	if err := h.client.Create(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: h.client, Namespace: api.DefaultNamespace, Log: logr.Discard(),
		ClusterID: func(name string) (string, bool) { return name, true },
	})
	if problems := keeper.Keep(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
	server := identity.NewServer(identity.ServerOptions{
		Reader: h.client, Namespace: api.DefaultNamespace, Hosts: []string{"127.0.0.1"}, Log: logr.Discard(),
	})
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := grpc.NewServer(grpc.Creds(credentials.NewTLS(server.TLSConfig())))
	statusv3.RegisterClientStatusDiscoveryServiceServer(serving, xds.NewStatus(connected(clients), func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		id, err := server.Identify(p)
		if err == nil && !id.Admin() {
			err = errors.New(id.String() + " is no admin")
		}
		return err
	}))
	done := make(chan error, 1)
	go func() { done <- serving.Serve(listener) }()
	t.Cleanup(func() {
		serving.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &hub{h, server, listener.Addr().String()}
}

// announce says where hubs serve.
func (h *hub) announce(t *testing.T, addresses ...string) {
	t.Helper()
	announced := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: api.DefaultNamespace, Name: xdsConfigMap}, Data: map[string]string{xdsAddressKey: strings.Join(addresses, ",")},
	}
	if err := h.client.Create(t.Context(), announced); err != nil {
		t.Fatal(err)
	}
}

type connected []ads.ClientState

func (c connected) Clients() []ads.ClientState { return c }

// execute runs a command against a host.
func execute(t *testing.T, h *host, args ...string) (out, told string, err error) {
	t.Helper()
	streams, _, stdout, stderr := genericiooptions.NewTestIOStreams()
	streams.In = io.NopCloser(strings.NewReader(""))
	root := (&program{name: Hansa, streams: streams, config: genericclioptions.NewConfigFlags(true), dial: func() (*host, error) { return h, nil }}).command()
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

// deaf returns an address at which nobody listens.
func deaf(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func TestXDSClients(t *testing.T) {
	now := time.Now()
	h := newHub(t,
		ads.ClientState{
			Node: "m1/one", Agent: "gRPC Go", Identity: "spiffe://clusterset.local/cluster/m1/client", View: "grpc/m1/z1", Protocol: "sotw",
			Address: "10.0.0.1:999", Since: now.Add(-30 * time.Minute),
			Kinds: []ads.KindState{{Type: "type.googleapis.com/envoy.config.cluster.v3.Cluster", Names: 1, Version: "abc", ACKVersion: "abc", Lag: 1500 * time.Microsecond}},
		},
		ads.ClientState{
			Node: "m2/two", View: "proxy/m2/", Protocol: "delta", Since: now.Add(-time.Hour),
			Kinds: []ads.KindState{{
				Type: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", Wildcard: true, Rejected: []string{"x"},
				LastNACK: &ads.NACK{At: now.Add(-40 * time.Minute), Message: "no\nsuch thing", Version: "v7"},
			}},
		})
	if _, _, err := execute(t, h.host, "xds", "clients"); err == nil || !strings.Contains(err.Error(), "--xds-advertise") {
		t.Errorf("without an announcement: %v", err)
	}
	gone := deaf(t)
	h.announce(t, h.addr, gone)
	out, told, err := execute(t, h.host, "xds", "clients")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("got\n%s", out)
	}
	for i, words := range [][]string{
		{"NODE", "IDENTITY", "VIEW", "PROTOCOL", "SINCE", "LAG", "LAST NACK"},
		{"m1/one", "spiffe://clusterset.local/cluster/m1/client", "grpc/m1/z1", "sotw", "30m", "1.5ms", " -"},
		{"m2/two", "<none>", "proxy/m2/", "delta", "60m", "none", "EDS 40m ago: no such thing"},
	} {
		for _, word := range words {
			if !strings.Contains(lines[i], word) {
				t.Errorf("%q is not in %q", word, lines[i])
			}
		}
	}
	if !strings.Contains(told, "warning: the hub at "+gone) {
		t.Errorf("the replica that does not answer is not named: %q", told)
	}
	if out, _, _ = execute(t, h.host, "xds", "clients", "-o", "wide"); !strings.Contains(out, "CDS=abc") || !strings.Contains(out, h.addr) {
		t.Errorf("wide:\n%s", out)
	}
	out, _, err = execute(t, h.host, "xds", "clients", "-o", "json")
	var decoded struct{ Clients []xdsClient }
	if err := errors.Join(err, json.Unmarshal([]byte(out), &decoded)); err != nil {
		t.Fatal(err)
	}
	if len(decoded.Clients) != 2 || decoded.Clients[1].Types[0].LastNACK.Version != "v7" || decoded.Clients[0].Types[0].Names != "1 names" {
		t.Errorf("json:\n%s", out)
	}
}

func TestXDSClientsFails(t *testing.T) {
	h := newHub(t)
	h.announce(t, deaf(t))
	_, told, err := execute(t, h.host, "xds", "clients")
	if err == nil || !strings.Contains(err.Error(), "no replica of the hub answered") || !strings.Contains(told, "connection refused") {
		t.Errorf("nobody answers: %v, %q", err, told)
	}

	// Who is no admin learns nothing.
	secret, err := h.certificate(t.Context(), identity.ClientSecret("m1"))
	if err != nil {
		t.Fatal(err)
	}
	config := clientTLS(t, secret)
	if _, err := askReplica(t.Context(), h.addr, config); err == nil || !strings.Contains(err.Error(), "is no admin") {
		t.Errorf("a client asks who is connected: %v", err)
	}
	admin, err := h.certificate(t.Context(), identity.AdminSecret)
	if err != nil {
		t.Fatal(err)
	}
	if clients, err := askReplica(t.Context(), h.addr, clientTLS(t, admin)); err != nil || len(clients) != 0 {
		t.Errorf("an admin asks: %v, %v", clients, err)
	}
}

func clientTLS(t *testing.T, secret *corev1.Secret) *tls.Config {
	t.Helper()
	config, err := identity.ClientConfigPEM(secret.Data["tls.crt"], secret.Data["tls.key"], secret.Data["ca.crt"])
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestBootstrap feeds the file to gRPC's own parser, and connects with gRPC's own credentials for it.
// A certificate that has ended is the reason that is told, not that no hub answers.
func TestCertificateEnded(t *testing.T) {
	h, err := newWorld(Hansa, "kind: Namespace\napiVersion: v1\nmetadata: {name: x}")
	if err != nil {
		t.Fatal(err)
	}
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: h.client, Namespace: api.DefaultNamespace, Log: logr.Discard(),
		ClusterID: func(string) (string, bool) { return "", false },
		Now:       func() time.Time { return time.Now().Add(-identity.AdminLifetime - time.Hour) },
	})
	if problems := keeper.Keep(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
	(&hub{host: h}).announce(t, deaf(t))
	if _, _, err := execute(t, h, "xds", "clients"); err == nil || !strings.Contains(err.Error(), "hansa-xds-admin") || !strings.Contains(err.Error(), "ended on") {
		t.Errorf("the error is %v", err)
	}
}

func TestBootstrap(t *testing.T) {
	h := newHub(t)
	h.announce(t, h.addr)
	dir := filepath.Join(t.TempDir(), "certs")
	out, _, err := execute(t, h.host, "xds", "bootstrap", "--cluster", "m1", "--dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"ca.crt": 0o644, "tls.crt": 0o644, "tls.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	builder, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(out))
	if err != nil {
		t.Fatalf("gRPC does not accept %s\n%v", out, err)
	}
	made, err := builder.Build(resolver.Target{}, channel{}, resolver.BuildOptions{})
	if err == nil {
		made.Close()
	}

	var parsed struct {
		Servers []struct {
			Creds []struct {
				Type   string
				Config json.RawMessage
			} `json:"channel_creds"`
		} `json:"xds_servers"`
	}
	if err := json.Unmarshal([]byte(out), &parsed); err != nil {
		t.Fatal(err)
	}
	creds := xdsbootstrap.GetChannelCredentials(parsed.Servers[0].Creds[0].Type)
	if creds == nil {
		t.Fatalf("gRPC has no credentials of type %q", parsed.Servers[0].Creds[0].Type)
	}
	bundle, stop, err := creds.Build(parsed.Servers[0].Creds[0].Config)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	connection, err := grpc.NewClient(h.addr, grpc.WithCredentialsBundle(bundle))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = statusv3.NewClientStatusDiscoveryServiceClient(connection).FetchClientStatus(ctx, &statusv3.ClientStatusRequest{})
	if err == nil || !strings.Contains(err.Error(), "spiffe://clusterset.local/cluster/m1/client is no admin") {
		t.Errorf("the hub does not see who it is: %v", err)
	}
}

// channel is what a resolver reports to.
type channel struct{ resolver.ClientConn }

func (channel) UpdateState(resolver.State) error                     { return nil }
func (channel) ReportError(error)                                    {}
func (channel) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

// TestWriteFile checks that what is right is left alone, and that a wrong mode is mended.
func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tls.key")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"old", "new"} {
		if err := writeFile(name, []byte(content), secretMode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		got, readErr := os.ReadFile(name)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		if string(got) != content || info.Mode() != secretMode {
			t.Errorf("%q with mode %v, want %q", got, info.Mode(), content)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
