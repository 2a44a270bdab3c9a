package imports_test

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/imports"
)

// said is what the derived Service of a member says its gateway ports are.
func (w *world) said(member string) string {
	return w.stores[member].get(imports.ServiceResource, "shop", imports.DerivedName("web")).GetAnnotations()[api.GatewayPortsAnnotation]
}

// hear brings what the derived Service says back into the table, as its watch does.
func (w *world) hear(member string) {
	allottedIn(w.builder, "id-"+member, w.said(member))
	w.publish()
}

// TestGatewayComes tells how a cluster gets a gateway, loses it, and has it again.
func TestGatewayComes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.wrote("without gateways it is as ever", "b", imported...)
		if said := w.said("b"); said != "" {
			t.Errorf("without a gateway the Service has the gateway ports %q", said)
		}

		gate(w.builder, "id-b", "n", "192.0.2.1 10.1.9.1@n1", "192.0.2.2 10.1.9.2@n2")
		w.publish()
		w.wrote("with gateways the Service gets a port of theirs; before they know it, nothing leads there", "b", "update services")
		said := w.said("b")
		if ports, err := clusterset.ParseGatewayPorts(said); err != nil || len(ports) != 1 || ports[0].Port < imports.FirstGatewayPort || ports[0].Port > imports.LastGatewayPort {
			t.Fatalf("the Service has the gateway ports %q: %v", said, err)
		}
		w.hear("b")
		w.wrote("then its slices do", "b", "create endpointslices", "delete endpointslices")

		w.shut()
		w.start()
		w.pass(time.Minute)
		w.wrote("a hub that starts again changes nothing", "b")

		gate(w.builder, "id-b", "n", "192.0.2.1 10.1.9.1@n1!", "192.0.2.2 10.1.9.2@n2")
		w.publish()
		w.wrote("one that others see as down is left out", "b", "update endpointslices")
		gate(w.builder, "id-b", "n", "192.0.2.1 10.1.9.1@n1!", "192.0.2.2 10.1.9.2@n2!")
		w.publish()
		w.wrote("when all are, pods of the own cluster use them as before", "b", "update endpointslices")
		facts(w.builder, "id-b@n")
		w.publish()
		if w.said("b") != said {
			t.Errorf("the port is kept for when gateways come back: it was %q, and is %q", said, w.said("b"))
		}
		w.wrote("without gateways, pods are reached as before", "b", "create endpointslices", "delete endpointslices")
	})
}

// TestMeddlingWithGatewayPorts has people write the annotation.
func TestMeddlingWithGatewayPorts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		gate(w.builder, "id-a", "n", "192.0.2.1 10.1.9.1@n1")
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		given := w.said("a")
		for reason, text := range map[string]string{
			"what cannot be read is written anew": "http:80", "a port that is not for services is too": "http/TCP=443", "so is nothing": "",
		} {
			service := w.stores["a"].get(imports.ServiceResource, "shop", imports.DerivedName("web")).DeepCopy()
			service.SetAnnotations(map[string]string{api.GatewayPortsAnnotation: text, "mine": "stays"})
			w.stores["a"].put(imports.ServiceResource, string(marshal(t, service)))
			w.pass(time.Second)
			if said := w.said("a"); said != given {
				t.Errorf("%s: it says %q, not %q", reason, said, given)
			}
			if mine := w.stores["a"].get(imports.ServiceResource, "shop", imports.DerivedName("web")).GetAnnotations()["mine"]; mine != "stays" {
				t.Errorf("%s: annotations of others are gone", reason)
			}
		}
	})
}

// TestOlderMember holds that hints which an API server drops are not written again and again.
func TestOlderMember(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stores["b"].older = true
		w.start()
		gate(w.builder, "id-b", "n", "192.0.2.1 10.1.9.1@n1")
		w.export("a", 1, properties(), "10.0.0.1")
		w.publish()
		w.hear("b")
		w.stores["b"].written()
		for i := range uint32(3) {
			w.builder.SetPolicy(web, clusterset.Policy{TTL: i + 1}) // everything is looked at again
			w.publish()
			w.pass(time.Minute)
		}
		w.wrote("there is nothing to write", "b")
		endpoints, _, _ := unstructured.NestedSlice(w.stores["b"].all(imports.SliceResource)[0].Object, "endpoints")
		if len(endpoints) != 1 {
			t.Errorf("the slice has %d endpoints, want the gateway", len(endpoints))
		}
	})
}

func marshal(t *testing.T, object *unstructured.Unstructured) []byte {
	t.Helper()
	text, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
