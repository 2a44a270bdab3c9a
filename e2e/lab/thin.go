package lab

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/lab/addons"
)

// awaitFakeNodes makes the nodes of a thin member that kwok plays, and waits until it has taken to all of them.
func (c Cluster) awaitFakeNodes(ctx context.Context, children map[Component]*child) error {
	if c.kwok == "" {
		return nil
	}
	api, err := c.clientset()
	if err != nil {
		return err
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("250"),
	}
	for k := range c.fake {
		name := fmt.Sprintf("%s-f%d", c.Name, k+1)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				addons.FakeNodeLabel: "true", corev1.LabelHostname: name,
				corev1.LabelTopologyRegion: c.Name, corev1.LabelTopologyZone: fmt.Sprintf("%s-%d", c.Name, k%3+1),
			}},
			Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity},
		}
		if _, err := api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making node %s: %w", name, err)
		}
	}
	return c.poll(ctx, "its fake nodes are ready", children, func(ctx context.Context) error {
		nodes, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: addons.FakeNodeLabel + "=true"})
		if err != nil {
			return err
		}
		ready := 0
		for _, node := range nodes.Items {
			for _, condition := range node.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready < c.fake {
			return fmt.Errorf("%w: %d of %d nodes", errNotReady, ready, c.fake)
		}
		return nil
	})
}
