package typeconfig

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
)

// defaultTargets returns the ten types that KubeFed's chart enables, sorted by the name of their FederatedTypeConfig.
// Versions are the ones that every supported Kubernetes serves.
func defaultTargets() []metav1.APIResource {
	return []metav1.APIResource{
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Name: "clusterroles"},
		{Version: "v1", Kind: "ConfigMap", Name: "configmaps", Namespaced: true, ShortNames: []string{"cm"}},
		{Group: "apps", Version: "v1", Kind: "Deployment", Name: "deployments", Namespaced: true, ShortNames: []string{"deploy"}},
		{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress", Name: "ingresses", Namespaced: true, ShortNames: []string{"ing"}},
		{Group: "batch", Version: "v1", Kind: "Job", Name: "jobs", Namespaced: true},
		{Version: "v1", Kind: "Namespace", Name: namespaces, ShortNames: []string{"ns"}},
		{Group: "apps", Version: "v1", Kind: "ReplicaSet", Name: "replicasets", Namespaced: true, ShortNames: []string{"rs"}},
		{Version: "v1", Kind: "Secret", Name: "secrets", Namespaced: true},
		{Version: "v1", Kind: "ServiceAccount", Name: "serviceaccounts", Namespaced: true, ShortNames: []string{"sa"}},
		{Version: "v1", Kind: "Service", Name: "services", Namespaced: true, ShortNames: []string{"svc"}},
	}
}

// Defaults returns the FederatedTypeConfigs of the ten types that KubeFed's chart enables, in the given namespace,
// sorted by name.
func Defaults(namespace string) []corev1b1.FederatedTypeConfig {
	targets := defaultTargets()
	configs := make([]corev1b1.FederatedTypeConfig, 0, len(targets))
	for _, target := range targets {
		config := ForTarget(target, "", "")
		config.Namespace = namespace
		configs = append(configs, *config)
	}
	return configs
}

// defaultShortNames returns the short names that KubeFed's chart gives the federated kind of a default target; nil for
// any other target.
func defaultShortNames(target corev1b1.APIResource) []string {
	for _, known := range defaultTargets() {
		if known.Group == target.Group && known.Name == target.PluralName {
			return ShortNames(known)
		}
	}
	return nil
}
