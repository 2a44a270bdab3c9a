package sync

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/sync/plan"
)

// kind is what a FederatedTypeConfig says, in the forms needed here.
type kind struct {
	name      string // of the FederatedTypeConfig
	target    plan.Target
	resource  schema.GroupVersionResource // of the target
	federated schema.GroupVersionResource
	fedKind   schema.GroupVersionKind
	versioned bool // the federated objects have namespaces, and so have their PropagatedVersions
	remote    bool // statusCollection
}

func kindOf(tc *corev1b1.FederatedTypeConfig) kind {
	target, federated := tc.GetTargetType(), tc.GetFederatedType()
	return kind{
		name: tc.Name,
		target: plan.Target{
			GVK:        schema.GroupVersionKind{Group: target.Group, Version: target.Version, Kind: target.Kind},
			Namespaced: tc.GetNamespaced(),
		},
		resource:  schema.GroupVersionResource{Group: target.Group, Version: target.Version, Resource: target.Name},
		federated: schema.GroupVersionResource{Group: federated.Group, Version: federated.Version, Resource: federated.Name},
		fedKind:   schema.GroupVersionKind{Group: federated.Group, Version: federated.Version, Kind: federated.Kind},
		versioned: tc.GetFederatedNamespaced(),
		remote:    tc.GetStatusEnabled(),
	}
}
