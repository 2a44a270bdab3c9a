package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
)

const (
	// workloadPatience is how long a SPIFFE Workload API may take to give the hub its certificate.
	workloadPatience = 30 * time.Second
	// reviewTimeout bounds a question to a member about a token.
	reviewTimeout = 5 * time.Second
)

// identities is who is who: the hub's certificate, those of others, and who of them connects.
type identities struct {
	who      *identity.Server
	enrol    *enrolment.Server // nil: the hub signs nothing
	refusals *identity.Refusals
	door     *door
	parts    []manager.Runnable
}

// newIdentities makes what the flags ask for: an authority of the hub's own, one that takes its intermediate from a Secret, or
// certificates of a SPIFFE Workload API.
func (s services) newIdentities(watcher *exports.Watcher, address string) (*identities, error) {
	workload, err := s.openWorkload()
	if err != nil {
		return nil, err
	}
	host, namespace, log := s.mgr.GetClient(), s.options.Namespace, s.log.WithName("identity")
	options := identity.ServerOptions{
		Reader: host, Namespace: namespace, Hosts: hosts(address), External: s.options.CASecret, Log: log,
		Revoked: revoked(watcher),
	}
	if workload != nil {
		options.Source = workload
	}
	i := &identities{who: identity.NewServer(options), refusals: identity.NewRefusals("xds", "enrolment")}
	i.door = newDoor(identity.Credentials(i.who.TLSConfig(), i.refusals.Count("xds")), i.who.Identify, log)
	i.parts = []manager.Runnable{i.who}
	if workload != nil {
		i.parts = append(i.parts, closing{workload})
		return i, nil
	}
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, ClusterID: watcher.ClusterID, External: s.options.CASecret, Log: log, Revoked: options.Revoked,
	})
	tokens := &enrolment.Tokens{Client: host, Namespace: namespace, Log: log}
	i.enrol = enrolment.NewServer(enrolment.Options{
		Issuer: i.who, Identify: i.who.Identify, ClusterID: watcher.ClusterID, Joined: joined(watcher), Tokens: tokens,
		Reviewer: reviewer{s.registry}, Account: enrolment.AccountName(namespace), Log: s.log.WithName("enrolment"),
	})
	i.parts = append(i.parts, keeper, tokens)
	return i, nil
}

// revoked tells whether certificates of a cluster are not good any more.
func revoked(watcher *exports.Watcher) identity.RevokedFunc {
	return func(cluster string, issued time.Time) bool {
		snapshot, _ := watcher.Current()
		return snapshot.Revoked(cluster, issued)
	}
}

// joined tells whether a cluster is a member, by its id, once that is known.
func joined(watcher *exports.Watcher) func(id string) bool {
	return func(id string) bool {
		select {
		case <-watcher.Ready():
			_, member := watcher.Member(id)
			return member
		default:
			return true
		}
	}
}

// openWorkload connects to the SPIFFE Workload API, if the hub has its certificate from one.
func (s services) openWorkload() (*identity.Workload, error) {
	if s.options.SPIFFESocket == "" {
		return nil, nil //nolint:nilnil // not to use one is an ordinary choice
	}
	ctx, cancel := context.WithTimeout(s.ctx, workloadPatience)
	defer cancel()
	workload, err := identity.OpenWorkload(ctx, identity.WorkloadOptions{
		Address: s.options.SPIFFESocket, Role: identity.RoleHub, Log: s.log.WithName("identity"),
	})
	if err != nil {
		return nil, fmt.Errorf("--spiffe-socket: %w", err)
	}
	return workload, nil
}

// closing closes something when the hub ends.
type closing struct{ of interface{ Close() error } }

// NeedLeaderElection says that it is open on every replica.
func (closing) NeedLeaderElection() bool { return false }

// Start waits for the end.
func (c closing) Start(ctx context.Context) error {
	<-ctx.Done()
	return c.of.Close() //nolint:wrapcheck // it says what it is
}

// reviewer asks members about tokens of their ServiceAccounts.
type reviewer struct{ registry *cluster.Registry }

// Review implements enrolment.TokenReviewer.
func (r reviewer) Review(ctx context.Context, name, token string, audiences []string) (username, uid string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	members, _ := r.registry.Current()
	for _, member := range members {
		if member.Name != name {
			continue
		}
		api, err := reviewClient(member)
		if err != nil {
			return "", "", fmt.Errorf("asking cluster %s about a token: %w", name, err)
		}
		return enrolment.Review(ctx, api, token, audiences)
	}
	return "", "", fmt.Errorf("asking cluster %s about a token: it is not joined", name)
}

// reviewClient returns a client that needs no discovery, so that it makes one request.
func reviewClient(member *cluster.Member) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := authenticationv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("building the scheme: %w", err)
	}
	return client.New(member.Config(), client.Options{Scheme: scheme, Mapper: reviews()})
}

// enroller gives certificates to whoever proves to be in a cluster: every replica does.
type enroller struct {
	*identities

	listener net.Listener
}

// NeedLeaderElection says that standbys serve too.
func (e enroller) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (e enroller) Start(ctx context.Context) error {
	select {
	case <-e.who.Ready():
	case <-ctx.Done():
		if err := e.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("closing the listener of enrolment: %w", err)
		}
		return nil
	}
	if err := e.enrol.Serve(ctx, e.listener, e.who.AnonymousTLSConfig(), e.refusals.Count("enrolment")); err != nil {
		return fmt.Errorf("serving enrolment at %s (--enrol-addr): %w", e.listener.Addr(), err)
	}
	return nil
}
