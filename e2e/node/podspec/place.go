package podspec

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/node/config"
)

// Place is the environment that tells a container where it runs, as the test server reports it. Kubernetes has nothing
// of the kind; the lab gives it to all containers, whatever their image, so that a Pod that is made by nothing but the
// name of an image says who answers. It comes before all else, so a container that sets a variable itself has its way.
// The pod must have its address in its status already.
func Place(node config.Config, pod *corev1.Pod) *Variables {
	v := &Variables{}
	for _, variable := range [][2]string{
		{"CLUSTER", node.Cluster},
		{"REGION", node.Labels[corev1.LabelTopologyRegion]},
		{"ZONE", node.Labels[corev1.LabelTopologyZone]},
		{"NODE_NAME", node.Name},
		{"POD_NAME", pod.Name},
		{"POD_NAMESPACE", pod.Namespace},
		{"POD_IP", pod.Status.PodIP},
	} {
		v.Set(variable[0], variable[1])
	}
	return v
}
