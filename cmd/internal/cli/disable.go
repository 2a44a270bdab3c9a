package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// stopTimeout bounds the wait for the hub to stop a type.
const stopTimeout = 30 * time.Second

func (p *program) newDisable() *cobra.Command {
	var request typeRequest
	var deleteCRD, dryRun bool
	cmd := &cobra.Command{
		Use:   "disable TYPE",
		Short: "Disable the propagation of a type",
		Long: long(`
			Disables the propagation of a type and deletes its FederatedTypeConfig. What was propagated stays in the
			members. With --delete-crd the federated kind goes too, provided that no object of it is left.`),
		Example: p.examples(`
			# Stop the propagation of Deployments
			{} disable deployments.apps

			# Also delete the kind FederatedDeployment
			{} disable deployments.apps --delete-crd`),
		Args:              exactly("the name of a type"),
		ValidArgsFunction: p.completeTypeConfigs,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.name = args[0]
			if !deleteCRD && request.version != "" {
				return usage(cmd, "--version is of use with --delete-crd only")
			}
			if !deleteCRD && request.federatedGroup != api.FederatedGroup {
				return usage(cmd, "--federated-group is of use with --delete-crd only")
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			w := &writer{program: p, host: h, dryRun: dryRun}
			return w.disable(cmd.Context(), request, deleteCRD)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.version, "version", "", "API version of the type, to find its federated kind when there is no FederatedTypeConfig (with --delete-crd)")
	flags.StringVar(&request.federatedGroup, "federated-group", api.FederatedGroup, "API group of the federated kind when there is no FederatedTypeConfig (with --delete-crd)")
	flags.BoolVar(&deleteCRD, "delete-crd", false, "Also delete the federated kind")
	flags.BoolVar(&dryRun, "dry-run", false, "Only check, and say what would be done")
	return cmd
}

func (w *writer) disable(ctx context.Context, request typeRequest, deleteCRD bool) error {
	config, err := w.host.enabled(ctx, request.name)
	if err != nil {
		return err
	}
	if config == nil && !deleteCRD {
		return w.notEnabled(request.name)
	}
	federated := config
	if federated == nil {
		w.say("%q has no FederatedTypeConfig in namespace %s", request.name, w.host.namespace)
		if federated, _, err = w.host.resolve(ctx, request); err != nil {
			return err
		}
	}
	if deleteCRD {
		if err := w.host.refuseInstances(ctx, federated); err != nil {
			return err
		}
	} else {
		w.warnInstances(ctx, federated)
	}
	if config != nil {
		if err := w.stop(ctx, config); err != nil {
			return err
		}
	}
	if deleteCRD {
		if err := w.deleteCRD(ctx, federated); err != nil {
			return err
		}
	}
	if config == nil {
		return nil
	}
	return w.deleteTypeConfig(ctx, config)
}

// notEnabled answers a disable of a type that is not enabled: an error, but for KubeFed's scripts, which may repeat it.
func (w *writer) notEnabled(name string) error {
	if w.name == Kubefedctl {
		w.say("FederatedTypeConfig %q does not exist", w.host.namespace+"/"+name)
		return nil
	}
	return fmt.Errorf("%q is not enabled: there is no FederatedTypeConfig for it in namespace %s of the host cluster (context %q). See: kubectl -n %s get federatedtypeconfigs",
		name, w.host.namespace, w.host.context, w.host.namespace)
}

// enabled finds a FederatedTypeConfig by its own name or by a name of its target type; nil when there is none. Neither
// type has to exist any more.
func (h *host) enabled(ctx context.Context, name string) (*corev1b1.FederatedTypeConfig, error) {
	all := &corev1b1.FederatedTypeConfigList{}
	if err := h.client.List(ctx, all, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing FederatedTypeConfigs", err)
	}
	if found := named(all.Items, name); found != nil {
		return found, nil
	}
	kinds, err := h.kinds(ctx, "")
	if err != nil {
		return nil, err
	}
	target, err := kinds.find(name)
	if errors.Is(err, errUnknownType) {
		return nil, nil //nolint:nilnil // absent is an answer, not a failure
	}
	if err != nil {
		return nil, err
	}
	return named(all.Items, qualified(target)), nil
}

// named picks a FederatedTypeConfig by its name, or by the kind, plural or federated kind if only one has it.
func named(all []corev1b1.FederatedTypeConfig, name string) *corev1b1.FederatedTypeConfig {
	name = strings.ToLower(name)
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	var found *corev1b1.FederatedTypeConfig
	for i := range all {
		target, federated := all[i].Spec.TargetType, all[i].Spec.FederatedType
		if !slices.Contains([]string{
			target.PluralName, strings.ToLower(target.Kind), federated.PluralName, strings.ToLower(federated.Kind),
			typeconfig.QualifiedName(federated.PluralName, federated.Group),
		}, name) {
			continue
		}
		if found != nil {
			return nil
		}
		found = &all[i]
	}
	return found
}

// warnInstances tells that objects of a federated kind stay behind, which nothing acts upon any more.
func (w *writer) warnInstances(ctx context.Context, config *corev1b1.FederatedTypeConfig) {
	if err := w.host.refuseInstances(ctx, config); errors.Is(err, errInstances) {
		w.warn("objects of kind %s exist. They are not acted upon any more; deleting one takes effect when the type is enabled again", config.Spec.FederatedType.Kind)
	}
}

// errInstances marks a federated kind of which objects exist.
var errInstances = errors.New("objects of it exist")

// refuseInstances is an error when objects of a federated kind exist.
func (h *host) refuseInstances(ctx context.Context, config *corev1b1.FederatedTypeConfig) error {
	federated := config.Spec.FederatedType
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: federated.Group, Version: federated.Version, Kind: federated.Kind + "List"})
	err := h.client.List(ctx, list, client.Limit(1))
	switch {
	case apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return h.explain("listing objects of kind "+federated.Kind, err)
	case len(list.Items) == 0:
		return nil
	}
	first := list.Items[0]
	return fmt.Errorf("customresourcedefinition %q cannot be deleted while %w (%s %s/%s, and perhaps more). Delete them first, or disable the type without --delete-crd",
		typeconfig.QualifiedName(federated.PluralName, federated.Group), errInstances, federated.Kind, first.Namespace, first.Name)
}

// stop switches propagation off and waits until the hub says that it stopped.
func (w *writer) stop(ctx context.Context, config *corev1b1.FederatedTypeConfig) error {
	what := "federatedtypeconfig.core.kubefed.io/" + config.Name
	if config.Spec.Propagation != corev1b1.PropagationDisabled {
		changed := config.DeepCopy()
		changed.Spec.Propagation = corev1b1.PropagationDisabled
		if !w.dryRun {
			if err := w.host.client.Patch(ctx, changed, client.MergeFrom(config)); err != nil {
				return w.host.explain("disabling "+what, err)
			}
			changed.DeepCopyInto(config)
		}
		w.done(what, "disabled")
	}
	if w.dryRun {
		return nil
	}
	done := w.patience("waiting until the hub has stopped propagating %s ...", config.Name)
	defer done()
	live := &corev1b1.FederatedTypeConfig{}
	err := wait.PollUntilContextTimeout(ctx, pollInterval, stopTimeout, true, func(ctx context.Context) (bool, error) {
		err := w.host.client.Get(ctx, client.ObjectKeyFromObject(config), live)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return err == nil && stopped(live, config.Generation), err
	})
	switch {
	case wait.Interrupted(err):
		return fmt.Errorf("the hub has not stopped propagating %s after %s. Is it running? Propagation is switched off and stops when the hub sees it; then repeat the command",
			config.Name, stopTimeout)
	case err != nil:
		return w.host.explain("waiting for "+what, err)
	}
	w.say("propagation of %s has stopped", config.Name)
	return nil
}

// stopped tells whether no hub propagates a type: the hub has seen the generation and says so, or no hub ever took the
// type up.
func stopped(config *corev1b1.FederatedTypeConfig, generation int64) bool {
	if config.Status.PropagationController == "" && !slices.Contains(config.Finalizers, api.TypeConfigFinalizer) {
		return true
	}
	return config.Status.ObservedGeneration >= generation && config.Status.PropagationController == corev1b1.ControllerStatusNotRunning
}

func (w *writer) deleteCRD(ctx context.Context, config *corev1b1.FederatedTypeConfig) error {
	name := typeconfig.QualifiedName(config.Spec.FederatedType.PluralName, config.Spec.FederatedType.Group)
	var options []client.DeleteOption
	if w.dryRun {
		options = append(options, client.DryRunAll)
	}
	err := w.host.client.Delete(ctx, &apiextv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}, options...)
	switch {
	case apierrors.IsNotFound(err):
		w.say("%s%s does not exist", crdPrefix, name)
	case err != nil:
		return w.host.explain("deleting "+crdPrefix+name, err)
	default:
		w.done(crdPrefix+name, "deleted")
	}
	return nil
}

// deleteTypeConfig deletes a FederatedTypeConfig and waits until it is gone: the hub's finalizer ends the type.
func (w *writer) deleteTypeConfig(ctx context.Context, config *corev1b1.FederatedTypeConfig) error {
	what := "federatedtypeconfig.core.kubefed.io/" + config.Name
	uid := config.UID
	if w.dryRun {
		w.done(what, "deleted")
		return nil
	}
	err := w.host.client.Delete(ctx, config, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return w.host.explain("deleting "+what, err)
	}
	done := w.patience("waiting for the hub's finalizer of %s ...", what)
	defer done()
	err = wait.PollUntilContextTimeout(ctx, pollInterval, stopTimeout, true, func(ctx context.Context) (bool, error) {
		live := &corev1b1.FederatedTypeConfig{}
		err := w.host.client.Get(ctx, client.ObjectKeyFromObject(config), live)
		if apierrors.IsNotFound(err) || (err == nil && live.UID != uid) {
			return true, nil
		}
		return false, err
	})
	switch {
	case wait.Interrupted(err):
		return fmt.Errorf("%s is being deleted, but its finalizer %s is still there after %s. It goes when the hub runs; nothing else has to be done", what, api.TypeConfigFinalizer, stopTimeout)
	case err != nil:
		return w.host.explain("waiting for "+what, err)
	}
	w.done(what, "deleted")
	return nil
}
