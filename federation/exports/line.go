package exports

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
)

// Bounds of a line. A connection that died without a word is noticed within pingAfter + pingTimeout, since a watch may say
// nothing for long.
const (
	headerTimeout = 15 * time.Second
	pingAfter     = 5 * time.Second
	pingTimeout   = 5 * time.Second
	idleTimeout   = 90 * time.Second
)

// selectSlices leaves out what Hansa wrote, and what belongs to no Service.
const selectSlices = discoveryv1.LabelServiceName + "," + api.SliceManagedByLabel + "!=" + api.Controller

// line is one connection to a member with the workers on it. A member that is back, or has other credentials, gets a new one:
// nothing waits for what an old connection left behind.
type line struct {
	site   *site
	cancel context.CancelFunc
	wake   []chan struct{}
	full   [kinds]atomic.Pointer[excess] // something was left out: the worker has to begin anew
}

// hurry cuts short the pauses of workers that failed.
func (l *line) hurry() {
	if l == nil {
		return
	}
	for _, wake := range l.wake {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (l *line) close() {
	if l != nil {
		l.cancel()
	}
}

// connect gives a site a new line. What the workers of the old one still say is not listened to; what they said stays. The
// caller holds the lock.
func (w *Watcher) connect(ctx context.Context, s *site) {
	s.line.close()
	ctx, cancel := context.WithCancel(ctx)
	l := &line{site: s, cancel: cancel}
	s.line = l
	member := s.member
	config := member.Config()
	if config == nil {
		return // malformed; the registry tells when it is not any more
	}
	sources, transport, err := newSources(member, config)
	if err != nil {
		w.log.Error(err, "Preparing the watches of a member failed", "cluster", member.Name)
		return
	}
	for k := range Kind(kinds) {
		wake := make(chan struct{}, 1)
		l.wake = append(l.wake, wake)
		started := &worker{
			kind: k, cluster: member.Name, sources: sources[k], wake: wake,
			now: w.now, seen: eventsSeen.WithLabelValues(member.Name, k.String()),
			tell: func(came, seen time.Time, f *fact) {
				w.inbox.bring(ctx, change{line: l, came: came, seen: seen, fact: f})
			},
			full: &l.full[k],
		}
		started.listed = s.feeds[k].listed
		w.workers.Go(func() { started.run(ctx) })
	}
	w.workers.Go(func() {
		<-ctx.Done()
		transport.CloseIdleConnections()
	})
}

// edition is how one version of a kind is read.
type edition struct {
	resource schema.GroupVersionResource
	selector string
	list     func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch    func(context.Context, metav1.ListOptions) (watch.Interface, error)
	// serves tells for certain whether the cluster serves the resource; nil for what every cluster serves.
	serves func(context.Context) (bool, error)
}

// newSources returns the sources of each kind, the preferred version first, over one connection of their own.
func newSources(member *cluster.Member, config *rest.Config) (*[kinds][]edition, *http.Transport, error) {
	failed := func(err error) (*[kinds][]edition, *http.Transport, error) {
		return nil, nil, fmt.Errorf("cluster %q: %w: correct its KubeFedCluster, or join it again", member.Name, err)
	}
	config.UserAgent = "hansa-hub-exports"
	transport, err := ownTransport(config)
	if err != nil {
		return failed(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return failed(err)
	}
	client.Transport = &single{next: client.Transport, opened: make(chan struct{})}
	serves := func(ctx context.Context, resource schema.GroupVersionResource) (bool, error) {
		return member.ServesOver(ctx, config, client, resource)
	}
	var sources [kinds][]edition
	for kind, group := range map[Kind]schema.GroupVersionResource{
		kindServices: corev1.SchemeGroupVersion.WithResource("services"),
		kindSlices:   discoveryv1.SchemeGroupVersion.WithResource("endpointslices"),
	} {
		s, err := typed(config, client, group)
		if err != nil {
			return failed(err)
		}
		sources[kind] = []edition{s}
	}
	sources[kindSlices][0].selector = selectSlices
	nodes, err := metadata.NewForConfigAndClient(metadata.ConfigFor(config), client)
	if err != nil {
		return failed(err)
	}
	reader := nodes.Resource(corev1.SchemeGroupVersion.WithResource("nodes"))
	sources[kindNodes] = []edition{{
		resource: corev1.SchemeGroupVersion.WithResource("nodes"),
		list:     func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return reader.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return reader.Watch(ctx, o)
		},
	}}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return failed(err)
	}
	for _, version := range []string{"v1beta1", "v1alpha1"} {
		sources[kindExports] = append(sources[kindExports], custom(serves, objects, schema.GroupVersionResource{
			Group: api.MCSGroup, Version: version, Resource: "serviceexports",
		}))
	}
	for _, version := range []string{"v1beta1", "v1alpha1"} {
		sources[kindProperty] = append(sources[kindProperty], custom(serves, objects, schema.GroupVersionResource{
			Group: "about.k8s.io", Version: version, Resource: "clusterproperties",
		}))
	}
	return &sources, transport, nil
}

// ownTransport gives the configuration a transport that nobody else uses: client-go would share one among all who speak to
// the same cluster, and with it a connection that died.
func ownTransport(config *rest.Config) (*http.Transport, error) {
	var transport *http.Transport
	if given, ok := config.Transport.(*http.Transport); ok {
		transport = given.Clone()
	} else {
		tls, err := rest.TLSConfigFor(config)
		if err != nil {
			return nil, fmt.Errorf("preparing TLS: %w", err)
		}
		transport = utilnet.SetOldTransportDefaults(&http.Transport{TLSClientConfig: tls, Proxy: config.Proxy})
		config.TLSClientConfig, config.Proxy = rest.TLSClientConfig{}, nil
	}
	transport.TLSHandshakeTimeout = headerTimeout
	transport.ResponseHeaderTimeout = headerTimeout
	transport.IdleConnTimeout = idleTimeout
	transport.ForceAttemptHTTP2 = true
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	config.Transport = transport
	return transport, nil
}

// typed reads a built-in type as protobuf.
func typed(config *rest.Config, client *http.Client, resource schema.GroupVersionResource) (edition, error) {
	of := rest.CopyConfig(config)
	gv := resource.GroupVersion()
	of.GroupVersion = &gv
	of.APIPath = "/apis"
	if gv.Group == "" {
		of.APIPath = "/api"
	}
	of.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	of.ContentType, of.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	reader, err := rest.RESTClientForConfigAndClient(of, client)
	if err != nil {
		return edition{}, fmt.Errorf("preparing the client for %s: %w", resource.Resource, err)
	}
	return edition{
		resource: resource,
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return reader.Get().Resource(resource.Resource).VersionedParams(&o, scheme.ParameterCodec).Do(ctx).Get()
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return reader.Get().Resource(resource.Resource).VersionedParams(&o, scheme.ParameterCodec).Watch(ctx)
		},
	}, nil
}

// custom reads a custom resource that the cluster need not serve.
func custom(serves func(context.Context, schema.GroupVersionResource) (bool, error), objects dynamic.Interface, resource schema.GroupVersionResource) edition {
	reader := objects.Resource(resource)
	return edition{
		resource: resource,
		list:     func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return reader.List(ctx, o) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return reader.Watch(ctx, o)
		},
		serves: func(ctx context.Context) (bool, error) { return serves(ctx, resource) },
	}
}

// openTimeout bounds how long requests wait for the first one to open the connection.
const openTimeout = time.Second

// single has the first request open the connection before others follow, so that five workers that begin at once do not make
// five.
type single struct {
	next   http.RoundTripper
	begun  atomic.Bool
	opened chan struct{}
}

// RoundTrip implements http.RoundTripper.
func (s *single) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.send(r)
	if err != nil {
		return nil, err
	}
	return bounded(r, answer), nil
}

func (s *single) send(r *http.Request) (*http.Response, error) {
	if s.begun.CompareAndSwap(false, true) {
		defer close(s.opened)
		return s.next.RoundTrip(r)
	}
	select {
	case <-s.opened: // nearly always
		return s.next.RoundTrip(r)
	default:
	}
	timer := time.NewTimer(openTimeout)
	defer timer.Stop()
	select {
	case <-s.opened:
	case <-timer.C:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return s.next.RoundTrip(r)
}
