package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// Member is what is known of one registered cluster at one moment. It is immutable: a change makes a new Member.
type Member struct {
	Name   string
	UID    types.UID         // of the KubeFedCluster
	Labels map[string]string // of the KubeFedCluster; never change them
	Health Health

	link *link
}

// NewMember returns a member that no registry looks after, of the given health: for those who know of a cluster in another way.
// secret is the one that the KubeFedCluster names.
func NewMember(kfc *corev1b1.KubeFedCluster, secret *corev1.Secret, health Health) (*Member, error) {
	connection, err := newLink(kfc, secret)
	if err != nil {
		return nil, err
	}
	return &Member{Name: kfc.Name, UID: kfc.UID, Labels: kfc.Labels, Health: health, link: connection}, nil
}

// Ready reports whether the member's API server can be worked with now.
func (m *Member) Ready() bool { return m.link != nil && m.Health.Ready == corev1.ConditionTrue }

// Away reports whether the member is known not to be ready, or can never be while its registration is malformed. It
// is neither Ready nor Away before its first probe has ended.
func (m *Member) Away() bool { return m.link == nil || m.Health.Ready == corev1.ConditionFalse }

// Client talks to the member's API server without a rate limit of its own; nil when the registration is malformed.
func (m *Member) Client() dynamic.Interface {
	if m.link == nil {
		return nil
	}
	return m.link.client
}

// Config returns a copy of how to reach the member's API server, for clients of other makes; nil when the registration is
// malformed.
func (m *Member) Config() *rest.Config {
	if m.link == nil {
		return nil
	}
	return rest.CopyConfig(m.link.config)
}

// Serves reports whether the member's API server serves a resource. That it does not is only said on the ground of a
// document of the API server that lists what it serves: a 404 may come from a proxy on the way. And only while it calls
// itself ready: one that is starting does not know of custom resources yet, and neither do its documents.
func (m *Member) Serves(ctx context.Context, resource schema.GroupVersionResource) (bool, error) {
	if m.link == nil {
		return false, fmt.Errorf("cluster %q: %w", m.Name, ErrMalformed)
	}
	return m.ServesOver(ctx, m.link.config, m.link.http, resource)
}

// ServesOver is Serves for those who have a connection of their own, made from Config.
func (m *Member) ServesOver(ctx context.Context, config *rest.Config, over *http.Client, resource schema.GroupVersionResource) (bool, error) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(config, over)
	if err != nil {
		return false, fmt.Errorf("cluster %q: preparing discovery: %w", m.Name, err)
	}
	read := func(path string, into runtime.Object) error {
		if err := client.RESTClient().Get().AbsPath(path).Do(ctx).Into(into); err != nil {
			return fmt.Errorf("cluster %q: asking what it serves: %w", m.Name, err)
		}
		return nil
	}
	if err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return false, fmt.Errorf("cluster %q: asking whether it knows by now what it serves: %w", m.Name, err)
	}
	path := "/api/" + resource.Version
	if resource.Group != "" {
		path = "/apis/" + resource.GroupVersion().String()
		var groups metav1.APIGroupList
		if err := read("/apis", &groups); err != nil {
			return false, err
		}
		if !slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool {
			return slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool {
				return v.GroupVersion == resource.GroupVersion().String()
			})
		}) {
			return false, nil
		}
	}
	var list metav1.APIResourceList
	if err := read(path, &list); err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource }), nil
}

// Revision changes whenever endpoint, CA, proxy or credentials do, and so tells that Client is another one.
func (m *Member) Revision() string {
	if m.link == nil {
		return ""
	}
	return m.link.revision
}

// link is one revision of the connection to a member.
type link struct {
	revision string
	config   *rest.Config
	http     *http.Client
	client   dynamic.Interface
	cluster  cluster.Cluster
	cancel   context.CancelFunc
}

// newLink prepares the clients of a member; nothing is dialled yet.
func newLink(kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) (*link, error) {
	config, err := RESTConfig(kfc, secret)
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w: %w", kfc.Name, ErrMalformed, err)
	}
	dynamicClient, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w: %w", kfc.Name, ErrMalformed, err)
	}
	runtimeCluster, err := cluster.New(config, func(o *cluster.Options) { o.HTTPClient = client })
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w: %w", kfc.Name, ErrMalformed, err)
	}
	return &link{
		revision: revisionOf(kfc, secret),
		config:   config,
		http:     client,
		client:   dynamicClient,
		cluster:  runtimeCluster,
	}, nil
}

// close ends everything that runs on the link.
func (l *link) close() {
	l.cancel()
	utilnet.CloseIdleConnectionsFor(l.http.Transport)
}

// revisionOf hashes all that a connection depends on.
func revisionOf(kfc *corev1b1.KubeFedCluster, secret *corev1.Secret) string {
	var token []byte
	if secret != nil {
		token = secret.Data[api.TokenKey]
	}
	content, err := json.Marshal(map[string]any{"spec": kfc.Spec, "token": token, "uid": kfc.UID})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}
