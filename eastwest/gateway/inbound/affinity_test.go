package inbound_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestAffinity holds that a service with session affinity has the clients of another cluster at one pod: more than the
// cluster is not known of them here.
func TestAffinity(t *testing.T) {
	b := table(host{"", pod(t, "zero")}, host{"", pod(t, "one")}, host{"", pod(t, "two")})
	b.SetExport("m2", web, clusterset.Export{Created: time.Unix(1, 0), Properties: &clusterset.Properties{
		Ports: []clusterset.Port{{Name: "http", Port: 80}}, SessionAffinity: corev1.ServiceAffinityClientIP,
	}})
	h := handler(t, b, nil)
	heard := map[string]int{}
	for range 20 {
		text, no := say(t, h, request, "hello")
		if no != nil {
			t.Fatal(no)
		}
		heard[text]++
	}
	if len(heard) != 1 {
		t.Errorf("heard %v, want one pod", heard)
	}
}
