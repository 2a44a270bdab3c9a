package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// chooseGateways sees to it that agents have nodes to run on.
func (j *Joiner) chooseGateways(ctx context.Context, named []string) error {
	var all corev1.NodeList
	if err := j.member.client.List(ctx, &all); err != nil {
		return fmt.Errorf("listing the nodes of %s: %w\n%s", j.member.Name, err, Advice(err))
	}
	chosen, err := Gateways(all.Items, named)
	if err != nil {
		return fmt.Errorf("%w in %s", err, j.member.Name)
	}
	for _, name := range chosen {
		if err := j.labelNode(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (j *Joiner) labelNode(ctx context.Context, name string) error {
	node := &corev1.Node{}
	node.Name = name
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"`+GatewayLabel+`":"true"}}}`))
	options := []client.PatchOption{client.FieldOwner(agentOwner)}
	if j.dry {
		options = append(options, client.DryRunAll)
	}
	if err := j.member.client.Patch(ctx, node, patch, options...); err != nil {
		return fmt.Errorf("labelling node/%s in %s: %w\n%s", name, j.member.Name, err, Advice(err))
	}
	j.did("labelled "+GatewayLabel+"=true in", "node/"+name, j.member)
	return nil
}

// errNoNode says that there is nowhere for an agent to run.
var errNoNode = errors.New("there is no node for an agent")

// Gateways returns the nodes that are to be labelled as gateways: those that are named; or none where some have the label;
// or else two that can run Pods, in different zones if possible, and no control planes if possible.
func Gateways(nodes []corev1.Node, named []string) ([]string, error) {
	labelled := func(n corev1.Node) bool { return n.Labels[GatewayLabel] == "true" }
	if len(named) > 0 {
		var missing []string
		for _, name := range named {
			i := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == name })
			switch {
			case i < 0:
				return nil, fmt.Errorf("there is no node %q", name)
			case !labelled(nodes[i]):
				missing = append(missing, name)
			}
		}
		return missing, nil
	}
	if slices.ContainsFunc(nodes, labelled) {
		return nil, nil
	}
	usable := slices.DeleteFunc(slices.Clone(nodes), func(n corev1.Node) bool { return n.Spec.Unschedulable || !ready(n) })
	slices.SortFunc(usable, func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(controls(a), controls(b)), cmp.Compare(a.Name, b.Name))
	})
	if len(usable) == 0 {
		return nil, errNoNode
	}
	chosen := []string{usable[0].Name}
	rest := usable[1:]
	slices.SortStableFunc(rest, func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(controls(a), controls(b)), cmp.Compare(beside(a, usable[0]), beside(b, usable[0])))
	})
	for _, n := range rest[:min(len(rest), defaultGateways-1)] {
		chosen = append(chosen, n.Name)
	}
	return chosen, nil
}

func ready(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// controls is 1 for a node of the control plane.
func controls(n corev1.Node) int {
	if _, ok := n.Labels["node-role.kubernetes.io/control-plane"]; ok {
		return 1
	}
	return 0
}

// beside is 1 for a node in the zone of another.
func beside(n, other corev1.Node) int {
	if n.Labels[corev1.LabelTopologyZone] == other.Labels[corev1.LabelTopologyZone] {
		return 1
	}
	return 0
}
