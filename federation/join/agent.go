package join

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/config"
)

// What an agent is called in a member, and what the hub says for it.
const (
	// AgentName is that of the agent's ServiceAccount, its roles and its DaemonSet.
	AgentName = "hansa-agent"
	// AgentRoots is the ConfigMap with the roots by which an agent checks the hub when it enrols.
	AgentRoots = "hansa-agent-ca"
	// AgentDNS is the Service of the agents' DNS servers.
	AgentDNS = "hansa-dns"
	// GatewayLabel on a node, with the value true, has an agent run there.
	GatewayLabel = "hansa.dev/gateway"

	// Announcement is the ConfigMap in the host in which hubs say where they are: HOST:PORT each, joined by commas.
	Announcement    = "hansa-xds"
	announcedXDS    = "address"
	announcedEnrol  = "enrolment"
	announcedRoots  = "ca.crt"
	stateVolume     = "state"
	agentOwner      = "hansa-join" // of fields, for the member's API server
	defaultGateways = 2            // that are chosen: one may die
)

// AgentOptions say how agents are installed in a member.
type AgentOptions struct {
	// Name of the KubeFedCluster, and the namespace of the hub, which is that of the agents, too.
	Name, Namespace string
	// Image has the program hansa as its entry point.
	Image string
	// Hubs and Enrolment are where agents reach the hub's xDS and its enrolment, HOST:PORT. Empty: as the hub announces.
	Hubs, Enrolment []string
	// Nodes get the label GatewayLabel. Empty: those that have it stay as they are; if there are none, two are chosen.
	Nodes []string
	// StateDir is where an agent keeps its certificate and what it knows on its node. Empty: it lasts as long as its Pod.
	StateDir string
	// Args are further arguments of the agent.
	Args   []string
	DryRun bool
}

// ErrNoHub marks an installation of agents that cannot know where the hub is.
var ErrNoHub = errors.New("the hub has not said where it is")

// InstallAgent installs agents in a member that is joined, or brings them up to date.
func (j *Joiner) InstallAgent(ctx context.Context, o AgentOptions) error {
	if o.DryRun {
		j = j.rehearsal()
	}
	roots, err := j.announced(ctx, &o)
	if err != nil {
		return err
	}
	objects, err := agentObjects(o, roots)
	if err != nil {
		return err
	}
	if err := j.chooseGateways(ctx, o.Nodes); err != nil {
		return err
	}
	for _, object := range objects {
		if err := j.apply(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

// announced completes the options with what the hub says of itself, and returns its roots.
func (j *Joiner) announced(ctx context.Context, o *AgentOptions) (roots string, err error) {
	said := &corev1.ConfigMap{}
	err = j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: Announcement}, said)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("%w: there is no configmap/%s/%s in %s. Start the hub, with --xds-addr and --enrol-addr, then repeat with --error-on-existing=false",
			ErrNoHub, o.Namespace, Announcement, j.host.Name)
	}
	if err != nil {
		return "", fmt.Errorf("reading configmap/%s/%s in %s: %w", o.Namespace, Announcement, j.host.Name, err)
	}
	if len(o.Hubs) == 0 {
		o.Hubs = list(said.Data[announcedXDS])
	}
	if len(o.Enrolment) == 0 {
		o.Enrolment = list(said.Data[announcedEnrol])
	}
	roots = said.Data[announcedRoots]
	switch {
	case roots == "":
		err = fmt.Errorf("%w: configmap/%s/%s in %s has no roots yet. Wait until the hub is ready, then repeat with --error-on-existing=false", ErrNoHub, o.Namespace, Announcement, j.host.Name)
	case len(o.Hubs) == 0:
		err = fmt.Errorf("%w: no hub announces an address of xDS in configmap/%s/%s of %s. Give --agent-hub", ErrNoHub, o.Namespace, Announcement, j.host.Name)
	case len(o.Enrolment) == 0:
		err = fmt.Errorf("%w: no hub announces an address of enrolment in configmap/%s/%s of %s. Start it with --enrol-addr, or give --agent-enrol", ErrNoHub, o.Namespace, Announcement, j.host.Name)
	}
	return roots, err
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// agentObjects returns what runs agents in a member.
func agentObjects(o AgentOptions, roots string) ([]*unstructured.Unstructured, error) {
	objects, err := config.Agent()
	if err != nil {
		return nil, err
	}
	trusted := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": AgentRoots, "namespace": o.Namespace,
			"labels": map[string]any{ManagedByLabel: ManagedBy, "app.kubernetes.io/name": AgentName},
		},
		"data": map[string]any{announcedRoots: roots},
	}}
	for _, object := range objects {
		if err := adapt(object, o); err != nil {
			return nil, fmt.Errorf("preparing %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return append([]*unstructured.Unstructured{trusted}, objects...), nil
}

// adapt fills in what depends on the member.
func adapt(object *unstructured.Unstructured, o AgentOptions) error {
	if object.GetNamespace() != "" {
		object.SetNamespace(o.Namespace)
	}
	switch object.GetKind() {
	case "ClusterRoleBinding":
		subjects, _, err := unstructured.NestedSlice(object.Object, "subjects")
		if err != nil {
			return err
		}
		for _, subject := range subjects {
			if err := unstructured.SetNestedField(subject.(map[string]any), o.Namespace, "namespace"); err != nil { //nolint:forcetypeassert // our own manifest
				return err
			}
		}
		return unstructured.SetNestedSlice(object.Object, subjects, "subjects")
	case "DaemonSet":
		return adaptPods(object, o)
	}
	return nil
}

// adaptPods fills in what agents are told.
func adaptPods(object *unstructured.Unstructured, o AgentOptions) error {
	pod := []string{"spec", "template", "spec"}
	containers, _, err := unstructured.NestedSlice(object.Object, append(pod, "containers")...)
	if err != nil {
		return err
	}
	agent, ok := containers[0].(map[string]any)
	if !ok {
		return errors.New("the first container is none")
	}
	args, _, err := unstructured.NestedStringSlice(agent, "args")
	if err != nil {
		return err
	}
	args = append(args, "--cluster="+o.Name, "--hub="+strings.Join(o.Hubs, ","), "--enrol="+strings.Join(o.Enrolment, ","))
	if err := unstructured.SetNestedStringSlice(agent, append(args, o.Args...), "args"); err != nil {
		return err
	}
	agent["image"] = o.Image
	if err := unstructured.SetNestedSlice(object.Object, containers, append(pod, "containers")...); err != nil {
		return err
	}
	volumes, _, err := unstructured.NestedSlice(object.Object, append(pod, "volumes")...)
	if err != nil {
		return err
	}
	for i, volume := range volumes {
		if fields, ok := volume.(map[string]any); ok && fields["name"] == stateVolume {
			volumes[i] = map[string]any{"name": stateVolume, "emptyDir": map[string]any{}}
			if o.StateDir != "" {
				volumes[i] = map[string]any{"name": stateVolume, "hostPath": map[string]any{"path": o.StateDir, "type": string(corev1.HostPathDirectoryOrCreate)}}
			}
		}
	}
	return unstructured.SetNestedSlice(object.Object, volumes, append(pod, "volumes")...)
}

// apply makes an object in the member, or makes it as it should be, and leaves what others set.
func (j *Joiner) apply(ctx context.Context, object *unstructured.Unstructured) error {
	what := describe(j.member.client, object)
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(object.GroupVersionKind())
	err := j.member.client.Get(ctx, client.ObjectKeyFromObject(object), live)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading %s in %s: %w\n%s", what, j.member.Name, err, Advice(err))
	}
	made := err != nil
	options := []client.ApplyOption{client.FieldOwner(agentOwner), client.ForceOwnership}
	if j.dry {
		options = append(options, client.DryRunAll)
	}
	applied := object.DeepCopy()
	if err := j.member.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), options...); err != nil {
		return fmt.Errorf("applying %s in %s: %w\n%s", what, j.member.Name, err, Advice(err))
	}
	switch {
	case made:
		j.did("created in", what, j.member)
	case live.GetGeneration() != applied.GetGeneration() || !j.dry && live.GetResourceVersion() != applied.GetResourceVersion():
		j.did("updated in", what, j.member)
	default:
		j.report("%s unchanged in %s", what, j.member.Name)
	}
	return nil
}
