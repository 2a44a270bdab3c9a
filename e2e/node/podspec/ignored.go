package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Ignored says what of a Pod's wishes the lab does not heed although the Pod may rely on it, one sentence each.
func Ignored(pod *corev1.Pod) []string {
	var messages []string
	users := pod.Spec.SecurityContext != nil && notRoot(pod.Spec.SecurityContext.RunAsNonRoot, pod.Spec.SecurityContext.RunAsUser)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if s := c.SecurityContext; s != nil {
				users = users || notRoot(s.RunAsNonRoot, s.RunAsUser)
			}
			if !pod.Spec.HostNetwork { // there they are the container's own ports, which the API server repeats
				messages = append(messages, hostPorts(c)...)
			}
		}
	}
	if users {
		messages = append(messages, "runAsNonRoot and runAsUser are ignored: containers of the lab run as its root")
	}
	return messages
}

func notRoot(nonRoot *bool, user *int64) bool {
	return nonRoot != nil && *nonRoot || user != nil && *user != 0
}

func hostPorts(c *corev1.Container) []string {
	var messages []string
	for _, port := range c.Ports {
		if port.HostPort != 0 {
			messages = append(messages, fmt.Sprintf("hostPort %d of container %s is ignored: use a Service of type NodePort, or hostNetwork", port.HostPort, c.Name))
		}
	}
	return messages
}
