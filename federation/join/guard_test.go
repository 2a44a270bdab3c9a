package join_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/join"
)

// TestGuard checks that a policy which somebody weakened is made as it was, and that it concerns one hub alone.
func TestGuard(t *testing.T) {
	for _, wanted := range join.Guard(hub) {
		live, ok := wanted.DeepCopyObject().(client.Object)
		if !ok {
			t.Fatalf("%T is no API object", wanted)
		}
		if join.Differs(wanted, live) {
			t.Errorf("%s differs from itself", identity(wanted))
		}
		switch weakened := live.(type) {
		case *admissionregistrationv1.ValidatingAdmissionPolicy:
			weakened.Spec.Validations = nil
		case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
			weakened.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn}
		}
		if !join.Differs(wanted, live) {
			t.Errorf("%s: a weakened one is taken for the wanted one", identity(wanted))
		}
		join.CopyContent(wanted, live)
		if join.Differs(wanted, live) {
			t.Errorf("%s: a weakened one is not mended", identity(wanted))
		}
		if policy, ok := wanted.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			condition := policy.Spec.MatchConditions[0].Expression
			if !strings.Contains(condition, `"system:serviceaccount:kube-federation-system:m1-hub"`) {
				t.Errorf("the policy does not name the hub: %s", condition)
			}
		}
	}
}
