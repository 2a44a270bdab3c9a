package typeconfig

import (
	"slices"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// namespaces is the plural of the one target whose federated kind has another scope than itself: FederatedNamespace
// lives in the namespace it federates.
const namespaces = "namespaces"

// ForTarget returns the FederatedTypeConfig that federates a target type under KubeFed's names: the object is named
// plural[.group] of the target, the federated kind is Federated<Kind> with plural federated<plural>. Empty
// federatedGroup and federatedVersion mean KubeFed's defaults. The result has no namespace.
func ForTarget(target metav1.APIResource, federatedGroup, federatedVersion string) *corev1b1.FederatedTypeConfig {
	if federatedGroup == "" {
		federatedGroup = api.FederatedGroup
	}
	if federatedVersion == "" {
		federatedVersion = api.FederatedVersion
	}
	scope := apiextv1.ClusterScoped
	if target.Namespaced {
		scope = apiextv1.NamespaceScoped
	}
	federatedScope := scope
	if target.Group == "" && target.Name == namespaces {
		federatedScope = apiextv1.NamespaceScoped
	}
	return &corev1b1.FederatedTypeConfig{
		TypeMeta:   metav1.TypeMeta{APIVersion: corev1b1.SchemeGroupVersion.String(), Kind: "FederatedTypeConfig"},
		ObjectMeta: metav1.ObjectMeta{Name: QualifiedName(target.Name, target.Group)},
		Spec: corev1b1.FederatedTypeConfigSpec{
			TargetType: corev1b1.APIResource{
				Group:      target.Group,
				Version:    target.Version,
				Kind:       target.Kind,
				PluralName: target.Name,
				Scope:      scope,
			},
			Propagation: corev1b1.PropagationEnabled,
			FederatedType: corev1b1.APIResource{
				Group:      federatedGroup,
				Version:    federatedVersion,
				Kind:       "Federated" + target.Kind,
				PluralName: "federated" + target.Name,
				Scope:      federatedScope,
			},
		},
	}
}

// QualifiedName is plural[.group]: how a FederatedTypeConfig is named after its target, and a CRD after its kind.
func QualifiedName(plural, group string) string {
	if group == "" {
		return plural
	}
	return plural + "." + group
}

// ShortNames returns the short names of the federated kind of a target: the target's own, each behind an f. Nil when
// the target has none.
func ShortNames(target metav1.APIResource) []string {
	var names []string
	for _, name := range target.ShortNames {
		names = append(names, "f"+name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
