package enrolment_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

const (
	namespace = "kube-federation-system"
	account   = "system:serviceaccount:kube-federation-system:hansa-agent"
	goodToken = "a token of the agent's account"
)

// newHost returns an API server that gives UIDs, as real ones do.
func newHost(t *testing.T) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), corev1b1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
		Create: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
			object.SetUID(uuid.NewUUID())
			return inner.Create(ctx, object, options...)
		},
	})
}

// hub is one that gives certificates, with all that it needs.
type hub struct {
	t      *testing.T
	host   client.WithWatch
	keeper *identity.Keeper
	who    *identity.Server
	server *enrolment.Server

	strangers, known *bufconn.Listener

	mu      sync.Mutex
	away    bool
	revoked map[string]time.Time
	members map[string]string // ids of clusters by name
	asked   int               // how often a cluster was asked about a token
}

// newHub starts a hub that stops with the test, or sooner by the function that it returns.
func newHub(t *testing.T, change func(*enrolment.Options)) (*hub, func()) {
	t.Helper()
	h := &hub{t: t, host: newHost(t), revoked: map[string]time.Time{}, members: map[string]string{"m1.example": "m1", "m2.example": "m2"}}
	h.keeper = identity.NewKeeper(identity.KeeperOptions{Client: h.host, Namespace: namespace, ClusterID: h.clusterID, Log: logr.Discard()})
	h.who = identity.NewServer(identity.ServerOptions{Reader: h.host, Namespace: namespace, Revoked: h.isRevoked, Log: logr.Discard()})
	h.tick()
	options := enrolment.Options{
		Issuer: h.who, Identify: h.who.Identify, ClusterID: h.clusterID, Account: account, Log: logr.Discard(),
		Tokens:   &enrolment.Tokens{Client: h.host, Namespace: namespace, Log: logr.Discard()},
		Reviewer: enrolment.TokenReviewerFunc(h.review),
	}
	if change != nil {
		change(&options)
	}
	h.server = enrolment.NewServer(options)
	h.strangers, h.known = bufconn.Listen(1<<16), bufconn.Listen(1<<16)
	xds := grpc.NewServer(grpc.Creds(identity.Credentials(h.who.TLSConfig(), func(error) {})))
	h.server.Register(xds)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.server.Serve(ctx, h.strangers, h.who.AnonymousTLSConfig(), nil); err != nil {
			t.Error(err)
		}
	})
	done.Go(func() {
		if err := xds.Serve(h.known); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		xds.Stop()
		done.Wait()
	})
	t.Cleanup(stop)
	return h, stop
}

// tick does what a hub does all the time.
func (h *hub) tick() {
	h.t.Helper()
	if problems := h.keeper.Keep(h.t.Context()); len(problems) > 0 {
		h.t.Fatal(problems)
	}
	if err := h.who.Refresh(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) clusterID(name string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id, ok := h.members[name]
	return id, ok
}

func (h *hub) isRevoked(cluster string, issued time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return issued.Before(h.revoked[cluster])
}

// review knows goodToken, of which each cluster has its own.
func (h *hub) review(_ context.Context, cluster, token string, audiences []string) (username, uid string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	switch {
	case token == "broken":
		return "", "", errors.New("the API server is away")
	case token == goodToken+" in "+cluster && len(audiences) == 1 && audiences[0] == enrolment.Audience:
		return account, "u1", nil
	case strings.HasPrefix(token, "other"):
		return "system:serviceaccount:shop:cart", "u2", nil
	}
	return "", "", enrolment.ErrNotAuthenticated
}

func (h *hub) set(change func(*hub)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *hub) dial(ctx context.Context, address string) (net.Conn, error) {
	h.mu.Lock()
	away := h.away
	h.mu.Unlock()
	switch {
	case away:
		return nil, errors.New("nobody is there")
	case address == "hub:15012":
		return h.strangers.DialContext(ctx)
	case address == "hub:15010":
		return h.known.DialContext(ctx)
	}
	return nil, errors.New("no such host")
}

// token makes a join token.
func (h *hub) token(cluster string) string {
	h.t.Helper()
	token, err := enrolment.CreateToken(h.t.Context(), h.host, namespace, cluster, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return token.Text()
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// agentOptions are those of an agent of m1.example, with the token of its account.
func agentOptions(t *testing.T, h *hub) enrolment.AgentOptions {
	t.Helper()
	files := t.TempDir()
	return enrolment.AgentOptions{
		Dir:    filepath.Join(t.TempDir(), "state"),
		Enroll: func() []string { return []string{"gone:15012", "hub:15012"} }, Renew: func() []string { return []string{"hub:15010"} },
		RootsFile: write(t, files, "ca.crt", string(h.who.BundlePEM())), AccountTokenFile: write(t, files, "account", goodToken+" in m1.example\n"),
		Cluster: "m1.example", Role: identity.RoleGateway, Log: logr.Discard(), Dial: h.dial,
	}
}

// run runs an agent until the function that it returns is called, or the test ends.
func run(t *testing.T, agent *enrolment.Agent) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func newAgent(t *testing.T, o enrolment.AgentOptions) *enrolment.Agent {
	t.Helper()
	agent, err := enrolment.NewAgent(o)
	if err != nil {
		t.Fatal(err)
	}
	return agent
}
