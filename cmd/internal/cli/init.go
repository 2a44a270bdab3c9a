package cli

import (
	"context"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/config"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

func (p *program) newInit() *cobra.Command {
	var defaultTypes, dryRun bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare a host cluster: namespace, federation API, default types",
		Long: long(`
			Prepares a host cluster for a hub: the hub's namespace, the definitions of the federation API and of the
			Multi-Cluster Services API, a KubeFedConfig of scope Cluster, and the ten default types, enabled.

			It may be run again: definitions are brought up to date, and a KubeFedConfig or FederatedTypeConfig that
			exists is never changed. The hub itself is another program: hansa hub.`),
		Example: p.examples(`
			# Prepare the cluster of the current context
			{} init

			# Prepare another cluster, and enable no types
			{} init --host-cluster-context=hub --default-types=false`),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := p.openHost()
			if err != nil {
				return err
			}
			defer p.patience("preparing %s ...", h.config.Host)()
			return p.runInit(cmd.Context(), h, defaultTypes, dryRun)
		},
	}
	cmd.Flags().BoolVar(&defaultTypes, "default-types", true, "Enable the ten types that KubeFed enables: namespaces, configmaps, secrets, …")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "Only say what would be done")
	return cmd
}

func (p *program) runInit(ctx context.Context, h *host, defaultTypes, dryRun bool) error {
	w := &writer{program: p, host: h, dryRun: dryRun}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}}
	if err := w.createOnly(ctx, namespace, "namespace/"+h.namespace); err != nil {
		return err
	}
	crds, err := config.CRDs()
	if err != nil {
		return err
	}
	for _, crd := range crds {
		if err := w.crd(ctx, crd); err != nil {
			return err
		}
	}
	if err := w.established(ctx, crds); err != nil {
		return err
	}
	if err := w.serviceDefinitions(ctx); err != nil {
		return err
	}
	settings := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": corev1b1.SchemeGroupVersion.String(),
		"kind":       "KubeFedConfig",
		"metadata":   map[string]any{"namespace": h.namespace, "name": api.DefaultConfigName},
		"spec":       map[string]any{"scope": string(apiextv1.ClusterScoped)},
	}}
	if err := w.createOnly(ctx, settings, "kubefedconfig.core.kubefed.io/"+api.DefaultConfigName); err != nil {
		return err
	}
	if !defaultTypes {
		return nil
	}
	return w.defaultTypes(ctx)
}

// defaultTypes enables the default types. A type that somebody configured otherwise keeps its FederatedTypeConfig, and
// gets the federated kind that it names.
func (w *writer) defaultTypes(ctx context.Context) error {
	defaults := typeconfig.Defaults(w.host.namespace)
	var crds []*apiextv1.CustomResourceDefinition
	for i := range defaults {
		live := &corev1b1.FederatedTypeConfig{}
		err := w.host.client.Get(ctx, client.ObjectKeyFromObject(&defaults[i]), live)
		switch {
		case err == nil:
			defaults[i] = *live
		case !apierrors.IsNotFound(err) && !w.dryRun:
			return w.host.explain("reading FederatedTypeConfig "+defaults[i].Name, err)
		}
		crd := typeconfig.CRDFor(&defaults[i])
		if err := w.crd(ctx, crd); err != nil {
			return err
		}
		crds = append(crds, crd)
	}
	if err := w.established(ctx, crds); err != nil {
		return err
	}
	for i := range defaults {
		if defaults[i].UID != "" {
			w.say("federatedtypeconfig.core.kubefed.io/%s exists in namespace %s, kept as it is", defaults[i].Name, w.host.namespace)
			continue
		}
		what := "federatedtypeconfig.core.kubefed.io/" + defaults[i].Name
		if err := w.createOnly(ctx, &defaults[i], what); err != nil {
			return err
		}
	}
	return nil
}
