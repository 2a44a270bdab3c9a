package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api"
)

// What `orphaning-deletion status` prints; KubeFed's words.
const (
	orphaningEnabled  = "Enabled"
	orphaningDisabled = "Disabled"
)

func (p *program) newOrphaning() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "orphaning-deletion",
		Short: "Choose what the deletion of a federated object does to the members",
		Long: long(`
			Chooses what the deletion of a federated object does to the objects in the members: by default they are
			deleted with it; with orphaning deletion they stay.`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	isFederated := func(kind string) bool { return strings.HasPrefix(kind, "Federated") }
	var dryRun bool
	cmd.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "Change nothing")
	must(cmd.PersistentFlags().MarkHidden("dry-run")) // KubeFed takes it everywhere
	add := func(use, short, example string, run func(ctx context.Context, h *host, object *unstructured.Unstructured) error) {
		cmd.AddCommand(&cobra.Command{
			Use:               use + " FEDERATED-TYPE NAME",
			Short:             short,
			Example:           p.examples(example),
			Args:              exactly("a federated type", "the name of the object"),
			ValidArgsFunction: p.completeTypes(isFederated),
			RunE: func(cmd *cobra.Command, args []string) error {
				h, err := p.openHost()
				if err != nil {
					return err
				}
				object, err := p.federatedObject(cmd.Context(), h, args[0], args[1])
				if err != nil {
					return err
				}
				return run(cmd.Context(), h, object)
			},
		})
	}
	add("enable", "Let the members keep their objects when the federated object is deleted", `
		{} orphaning-deletion enable federateddeployment web -n shop`,
		func(ctx context.Context, h *host, object *unstructured.Unstructured) error {
			return p.setOrphaning(ctx, h, object, true, dryRun)
		})
	add("disable", "Delete the objects in the members with the federated object (the default)", `
		{} orphaning-deletion disable federateddeployment web -n shop`,
		func(ctx context.Context, h *host, object *unstructured.Unstructured) error {
			return p.setOrphaning(ctx, h, object, false, dryRun)
		})
	add("status", "Print "+orphaningEnabled+" or "+orphaningDisabled, `
		{} orphaning-deletion status federateddeployment web -n shop`,
		func(_ context.Context, _ *host, object *unstructured.Unstructured) error {
			p.say("%s", orphaning(object))
			return nil
		})
	return cmd
}

// federatedObject reads the object that a person means. A target type stands for its federated kind.
func (p *program) federatedObject(ctx context.Context, h *host, typeName, name string) (*unstructured.Unstructured, error) {
	kinds, err := h.kinds(ctx, "")
	if err != nil {
		return nil, err
	}
	kind, err := kinds.find(typeName)
	if err != nil {
		return nil, fmt.Errorf("host cluster (context %q): %w", h.context, err)
	}
	kind, err = p.federatedOf(ctx, h, kinds, kind)
	if err != nil {
		return nil, err
	}
	key := client.ObjectKey{Name: name}
	if kind.Namespaced {
		if key.Namespace, err = p.contextNamespace(); err != nil {
			return nil, err
		}
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	err = h.client.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no %s %q in namespace %q of the host cluster (context %q). Name another namespace with -n", kind.Kind, name, key.Namespace, h.context)
	}
	return object, h.explain(fmt.Sprintf("reading %s %s/%s", kind.Kind, key.Namespace, name), err)
}

// federatedOf returns the federated kind of a target type, and a federated kind as it is. A kind that is neither is taken
// with a warning, as in KubeFed.
func (p *program) federatedOf(ctx context.Context, h *host, kinds kindList, kind metav1.APIResource) (metav1.APIResource, error) {
	configs, err := h.typeConfigs(ctx)
	if err != nil {
		return metav1.APIResource{}, err
	}
	if federates(configs, kind) {
		return kind, nil
	}
	if config := typeConfigNamed(configs, qualified(kind)); config != nil {
		federated := config.Spec.FederatedType
		return kinds.find(federated.PluralName + "." + federated.Group)
	}
	if kind.Group != api.FederatedGroup {
		p.warn("%s is neither a federated kind of an enabled type nor enabled itself; nothing acts upon the annotation then", qualified(kind))
	}
	return kind, nil
}

func orphaning(object *unstructured.Unstructured) string {
	if object.GetAnnotations()[api.OrphanAnnotation] == "true" {
		return orphaningEnabled
	}
	return orphaningDisabled
}

func (p *program) setOrphaning(ctx context.Context, h *host, object *unstructured.Unstructured, on, dryRun bool) error {
	what := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
	if (orphaning(object) == orphaningEnabled) == on {
		return nil
	}
	value := "null"
	if on {
		value = `"true"`
	}
	var options []client.PatchOption
	if dryRun {
		options = append(options, client.DryRunAll)
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, api.OrphanAnnotation, value)
	if err := h.client.Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(patch)), options...); err != nil {
		return h.explain("annotating "+what, err)
	}
	return nil
}
