package feed_test

import (
	"testing"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	hansa "github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

// alone is a list of one member that never changes.
type alone struct{ member *cluster.Member }

func (a alone) Current() ([]*cluster.Member, <-chan struct{}) {
	return []*cluster.Member{a.member}, nil
}

// TestAnAgentReadsItsOwnCluster puts a feed and a watcher of one member together, as an agent does: while the hub is away,
// pods of the own cluster come and go, and its imports of what others export are known.
func TestAnAgentReadsItsOwnCluster(t *testing.T) {
	server := memberapi.New()
	t.Cleanup(server.Close)
	server.Install(memberapi.Exports)
	member, err := cluster.NewMember(&corev1b1.KubeFedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "own", UID: "own"},
		Spec:       corev1b1.KubeFedClusterSpec{APIEndpoint: server.URL(), CABundle: server.CA(), SecretRef: corev1b1.LocalSecretReference{Name: "own"}},
	}, &corev1.Secret{Data: map[string][]byte{hansa.TokenKey: []byte("token-1")}}, cluster.Health{Ready: corev1.ConditionTrue, Offline: corev1.ConditionFalse})
	if err != nil {
		t.Fatal(err)
	}
	own := exports.NewWatcher(exports.Options{Members: alone{member}, ClusterID: "m3", Log: testr.New(t)})
	ended := make(chan error, 1)
	go func() { ended <- own.Run(t.Context()) }()
	t.Cleanup(func() { // after the test's context has ended
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	w := shop(t, 1000)
	h := serve(t, w, "m3", ads.Limits{})
	a := start(t, feed.Options{Cluster: "m3", Own: own}, h)
	a.until("the hub's services are there", func() bool { return a.snapshot().Service(web) != nil })
	h.Stop()

	exported := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}}
	exported.SetNamespace(web.Namespace)
	exported.SetName(web.Name)
	server.Set(memberapi.Exports, exported)
	server.Set(memberapi.Services, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: web.Namespace, Name: web.Name},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	})
	server.Set(memberapi.Services, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: web.Namespace, Name: "hansa-abc", Annotations: map[string]string{hansa.GatewayPortsAnnotation: "http/TCP=20017"},
			Labels: map[string]string{hansa.SliceManagedByLabel: hansa.Controller, hansa.ServiceNameLabel: web.Name},
		},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}},
	})
	for _, address := range []string{"10.3.0.1", "10.3.0.2"} {
		server.Set(memberapi.Slices, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: web.Namespace, Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: web.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		})
		a.until("its pod is "+address, func() bool { return addresses(a.snapshot(), web, "m3") == address+" 10.1.0.1 10.1.0.2 10.2.0.1" })
	}
	server.Delete(memberapi.Exports, web.Namespace, web.Name)
	a.until("only others export it", func() bool { return addresses(a.snapshot(), web, "m3") == "10.1.0.1 10.1.0.2 10.2.0.1" })
	if got := a.snapshot().Service(web).GatewayPort("m3", clusterset.Port{Name: "http", Protocol: corev1.ProtocolTCP}); got != 20017 {
		t.Errorf("the gateways take its port at %d, want 20017", got)
	}
}
