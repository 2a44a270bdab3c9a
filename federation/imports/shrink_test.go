package imports_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/imports"
)

func sliceOf(address string, more map[string]any) *unstructured.Unstructured {
	object := map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  map[string]any{"namespace": "ns", "name": "s", "labels": map[string]any{"ours": "yes"}},
		"endpoints": []any{map[string]any{"addresses": []any{address}, "conditions": map[string]any{"ready": true}}},
		"ports":     []any{map[string]any{"name": "http", "port": int64(8080)}},
	}
	maps.Copy(object, more)
	return &unstructured.Unstructured{Object: object}
}

func TestMendSlice(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		live, wanted *unstructured.Unstructured
		changed      bool
	}{
		{"Same", "what is as wanted is not written", sliceOf("10.0.0.1", nil), sliceOf("10.0.0.1", nil), false},
		{"Address", "another address is news", sliceOf("10.0.0.1", nil), sliceOf("10.0.0.2", nil), true},
		{"Emptied", "no endpoints are news", sliceOf("10.0.0.1", nil), sliceOf("10.0.0.1", map[string]any{"endpoints": []any{}}), true},
		{
			"NoneIsEmpty", "the API server may leave out an empty list",
			sliceOf("", map[string]any{"ports": nil}), sliceOf("", map[string]any{"ports": []any{}}), false,
		},
		{
			"Label", "a label that somebody took away comes back",
			sliceOf("10.0.0.1", map[string]any{"metadata": map[string]any{"namespace": "ns", "name": "s"}}), sliceOf("10.0.0.1", nil), true,
		},
	} {
		for _, shrunk := range []bool{false, true} {
			live := test.live.DeepCopy()
			if shrunk {
				imports.Shrink(live)
				if _, kept := live.Object["endpoints"]; kept {
					t.Errorf("%s: a slice that was shrunk holds its endpoints", test.name)
				}
			}
			before := live.DeepCopy()
			mended, changed, err := imports.MendSlice(live, test.wanted)
			if err != nil || changed != test.changed {
				t.Errorf("%s, shrunk %t: changed = %t, %v; want %t: %s", test.name, shrunk, changed, err, test.changed, test.reason)
			}
			if diff := gocmp.Diff(before, live); diff != "" {
				t.Errorf("%s, shrunk %t: the live object was modified:\n%s", test.name, shrunk, diff)
			}
			if diff := gocmp.Diff(test.wanted.Object, mended.Object); changed && diff != "" {
				t.Errorf("%s, shrunk %t: what is written is not all that is wanted: -want +got:\n%s", test.name, shrunk, diff)
			}
		}
	}
}

// TestContent holds that the short way to the hash of a slice leads where the long one does.
func TestContent(t *testing.T) {
	texts := []string{"", "a", "node-1.example.com", "kubernetes.io/h2c", `a"b\c`, "<&>", "é\x00\u2028", strings.Repeat("x", 300)}
	random := rand.New(rand.NewPCG(1, 2))
	text := func() *string {
		if i := random.IntN(len(texts) + 2); i < len(texts) {
			return &texts[i]
		}
		return nil
	}
	flag := func() *bool { return new(random.IntN(2) == 0) }
	for range 2000 {
		var slice imports.Slice
		for range random.IntN(4) {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{*cmp.Or(text(), &texts[1])}, Hostname: text(), NodeName: text(), Zone: text(),
				Conditions: discoveryv1.EndpointConditions{Ready: flag(), Serving: flag(), Terminating: flag()},
			})
			if node := text(); node != nil {
				slice.Endpoints[len(slice.Endpoints)-1].Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: *node}}}
			}
		}
		for range random.IntN(3) {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
				Name: cmp.Or(text(), &texts[0]), AppProtocol: text(), Port: new(random.Int32N(65536)), Protocol: new(corev1.ProtocolTCP),
			})
		}
		long, short, err := imports.ContentOf(&slice)
		if err != nil || long != short {
			t.Fatalf("%+v: by its object %s, by itself %s (%v)", slice, long, short, err)
		}
	}
}
