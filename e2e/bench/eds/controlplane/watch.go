package controlplane

import (
	"context"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hansa-dev/hansa/federation/api"
)

// watch holds the Services and EndpointSlices of all members in informers, as most controllers do: typed, in protobuf, all
// namespaces, and nothing left out. It returns how many there are.
func (p *plane) watch(ctx context.Context, m Members, patience time.Duration) (int, error) {
	var stores []cache.SharedIndexInformer
	for _, member := range m.Contexts {
		client, err := connect(m.Kubeconfig, member)
		if err != nil {
			return 0, err
		}
		factory := informers.NewSharedInformerFactory(client, 0)
		slices := factory.Discovery().V1().EndpointSlices().Informer()
		if _, err := slices.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: p.compare}); err != nil {
			return 0, fmt.Errorf("watching EndpointSlices in %s: %w", member, err)
		}
		stores = append(stores, slices, factory.Core().V1().Services().Informer())
		factory.StartWithContext(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	count := 0
	for _, s := range stores {
		if !cache.WaitForCacheSync(bounded.Done(), s.HasSynced) {
			return 0, fmt.Errorf("the informers are not in step after %s", patience)
		}
		count += len(s.GetStore().ListKeys())
	}
	return count, nil
}

// connect makes a client that speaks protobuf, without a limit of requests per second.
func connect(kubeconfig, member string) (kubernetes.Interface, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: member},
	).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading how to reach %s: %w", member, err)
	}
	config = rest.CopyConfig(config)
	config.QPS, config.UserAgent = -1, "hansa-bench-control-plane"
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", member, err)
	}
	return client, nil
}

// compare notes which addresses of a slice became others.
func (p *plane) compare(before, after any) {
	old, ok := before.(*discoveryv1.EndpointSlice)
	now, also := after.(*discoveryv1.EndpointSlice)
	if !ok || !also {
		return
	}
	host := now.Labels[discoveryv1.LabelServiceName] + "." + now.Namespace + ".svc." + api.ClustersetDomain
	for i := range min(len(old.Endpoints), len(now.Endpoints)) {
		from, to := old.Endpoints[i].Addresses, now.Endpoints[i].Addresses
		if len(from) > 0 && len(to) > 0 && from[0] != to[0] {
			p.changed(Change{Host: host, From: from[0], To: to[0]})
		}
	}
}
