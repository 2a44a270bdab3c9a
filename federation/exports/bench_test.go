package exports_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

// BenchmarkEvent measures the way of one event through a Watcher that is idle and has 1,000 services of 3 clusters: from
// having been received to the snapshot with it.
func BenchmarkEvent(b *testing.B) {
	members := &roll{changed: make(chan struct{})}
	var list []*cluster.Member
	for c := range 3 {
		server := memberapi.New()
		b.Cleanup(server.Close)
		server.Install(memberapi.Exports)
		for i := range 1000 {
			offer(server, fmt.Sprintf("service-%d", i), fmt.Sprintf("10.%d.0.1", c), fmt.Sprintf("10.%d.0.2", c))
		}
		kfc := &corev1b1.KubeFedCluster{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", c)},
			Spec:       corev1b1.KubeFedClusterSpec{APIEndpoint: server.URL(), CABundle: server.CA()},
		}
		m, err := cluster.NewMember(kfc, &corev1.Secret{Data: map[string][]byte{api.TokenKey: []byte("t")}}, up)
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, m)
	}
	members.set(list...)
	w := exports.NewWatcher(exports.Options{Members: members, Log: logr.Discard(), Patience: time.Minute})
	go func() { _ = w.Run(b.Context()) }()
	<-w.Ready()
	i := 0
	for b.Loop() {
		i++
		slice := endpoints("service-7", "service-7-1", "10.0.0.1", fmt.Sprintf("10.9.%d.%d", i>>8&255, i&255))
		_, changed := w.Current()
		exports.Inject(w, "c0", exports.Slices, slice)
		<-changed
	}
}
