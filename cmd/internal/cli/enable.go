package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// enableTypeDirective is KubeFed's file format for `enable -f`. It is no API type.
type enableTypeDirective struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		TargetVersion    string `json:"targetVersion,omitempty"`
		FederatedGroup   string `json:"federatedGroup,omitempty"`
		FederatedVersion string `json:"federatedVersion,omitempty"`
	} `json:"spec"`
}

// typeRequest is which type to enable, and how.
type typeRequest struct {
	name             string // as a person gives it
	version          string // of the target; empty: the preferred one
	federatedGroup   string
	federatedVersion string
}

func (p *program) newEnable() *cobra.Command {
	var request typeRequest
	var output, filename string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "enable (TYPE | -f FILENAME)",
		Short: "Enable the propagation of a type",
		Long: long(`
			Enables the propagation of a type of the host cluster, a custom one too, to the members: it creates the
			definition of the federated kind, and a FederatedTypeConfig which tells the hub to propagate it.

			TYPE is a kind (Deployment), a plural (deployments), either with its group (deployments.apps), or a short
			name (deploy). It may be run again to bring an enabled type up to date.`),
		Example: p.examples(`
			# Enable propagation of Deployments
			{} enable deployments.apps

			# See what would be created
			{} enable customresourcedefinitions -o yaml

			# Two types of the same plural: the federated kind of one goes to another group
			{} enable deployments.example.com --federated-group=kubefed.example.com

			# As configured in a file with an EnableTypeDirective
			{} enable -f enable-bars.yaml`),
		ValidArgsFunction: p.completeTypes(func(kind string) bool { return !strings.HasPrefix(kind, "Federated") }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := completeRequest(cmd, args, filename, &request); err != nil {
				return err
			}
			if output != "" && output != "yaml" && output != "json" {
				return usage(cmd, "unknown output format %q: yaml or json", output)
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			return p.runEnable(cmd.Context(), h, request, output, dryRun)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.version, "version", "", "API version of the type (default: the preferred one)")
	flags.StringVar(&request.federatedGroup, "federated-group", api.FederatedGroup, "API group for the federated kind")
	flags.StringVar(&request.federatedVersion, "federated-version", api.FederatedVersion, "API version for the federated kind")
	flags.StringVarP(&filename, "filename", "f", "", "File with an EnableTypeDirective; no other flag than --output is used with it")
	flags.BoolVar(&dryRun, "dry-run", false, "Only say what would be done")
	addOutput(cmd, &output, "yaml", "json")
	return cmd
}

// completeRequest takes the type from the argument, or all of the request from a file.
func completeRequest(cmd *cobra.Command, args []string, filename string, request *typeRequest) error {
	if filename == "" {
		if err := exactly("the name of a type (or -f FILENAME)")(cmd, args); err != nil {
			return err
		}
		request.name = args[0]
		return nil
	}
	if len(args) > 0 {
		return usage(cmd, "a type (%s) and a file (%s) do not go together", args[0], filename)
	}
	data, err := os.ReadFile(filename) //nolint:gosec // the file that the person named
	if err != nil {
		return fmt.Errorf("reading the EnableTypeDirective: %w", err)
	}
	read, err := parseDirective(data)
	if err != nil {
		return fmt.Errorf("file %s: %w", filename, err)
	}
	*request = read
	return nil
}

func parseDirective(data []byte) (typeRequest, error) {
	directive := &enableTypeDirective{}
	if err := yaml.UnmarshalStrict(data, directive); err != nil {
		return typeRequest{}, fmt.Errorf("no EnableTypeDirective: %w", err)
	}
	if directive.Kind != "" && directive.Kind != "EnableTypeDirective" {
		return typeRequest{}, fmt.Errorf("holds a %s, wanted is an EnableTypeDirective", directive.Kind)
	}
	if directive.Name == "" {
		return typeRequest{}, errors.New("metadata.name is empty; it is the name of the type to enable, e.g. deployments.apps")
	}
	request := typeRequest{
		name: directive.Name, version: directive.Spec.TargetVersion,
		federatedGroup: directive.Spec.FederatedGroup, federatedVersion: directive.Spec.FederatedVersion,
	}
	return request, nil
}

func (p *program) runEnable(ctx context.Context, h *host, request typeRequest, output string, dryRun bool) error {
	config, crd, err := h.resolve(ctx, request)
	if err != nil {
		return err
	}
	switch output {
	case "yaml":
		return writeYAML(p.streams.Out, config, crd)
	case "json":
		return writeValue(p.streams.Out, "json", []any{config, crd})
	}
	w := &writer{program: p, host: h, dryRun: dryRun}
	return w.enable(ctx, config, crd)
}

// resolve finds the type that a person means, and makes its FederatedTypeConfig and definition.
func (h *host) resolve(ctx context.Context, request typeRequest) (*corev1b1.FederatedTypeConfig, *apiextv1.CustomResourceDefinition, error) {
	kinds, err := h.kinds(ctx, request.version)
	if err != nil {
		return nil, nil, err
	}
	target, err := kinds.find(request.name)
	if err != nil {
		if request.version != "" {
			return nil, nil, fmt.Errorf("host cluster (context %q), version %s: %w", h.context, request.version, err)
		}
		return nil, nil, fmt.Errorf("host cluster (context %q): %w", h.context, err)
	}
	configs := &corev1b1.FederatedTypeConfigList{}
	err = h.client.List(ctx, configs, client.InNamespace(h.namespace))
	if err != nil && !apimeta.IsNoMatchError(err) { // -o yaml is of use in a host that is not prepared yet
		return nil, nil, h.explain("listing FederatedTypeConfigs", err)
	}
	if err := mayFederate(configs.Items, target); err != nil {
		return nil, nil, err
	}
	config := typeconfig.ForTarget(target, request.federatedGroup, request.federatedVersion)
	crd := typeconfig.CRDFor(config)
	crd.Spec.Names.ShortNames = typeconfig.ShortNames(target)
	return config, crd, nil
}

// mayFederate refuses types whose propagation cannot work.
func mayFederate(configs []corev1b1.FederatedTypeConfig, target metav1.APIResource) error {
	switch {
	case target.Group == api.FederatedGroup || federates(configs, target):
		return fmt.Errorf("%s is a federated kind itself; enable the type that it federates", qualified(target))
	case target.Group == corev1b1.SchemeGroupVersion.Group:
		return fmt.Errorf("%s is the hub's own and cannot be propagated", qualified(target))
	}
	for _, verb := range []string{"create", "list", "watch", "delete"} {
		if !slices.Contains(target.Verbs, verb) {
			return fmt.Errorf("%s cannot be propagated: its API does not support %q", qualified(target), verb)
		}
	}
	return nil
}

// enable creates a type's definition and FederatedTypeConfig, or brings them up to date.
func (w *writer) enable(ctx context.Context, config *corev1b1.FederatedTypeConfig, crd *apiextv1.CustomResourceDefinition) error {
	h := w.host
	err := h.client.Get(ctx, client.ObjectKey{Name: h.namespace}, &corev1.Namespace{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("the host cluster (context %q) has no namespace %q for the hub. Prepare it (%s), or name the right one with --kubefed-namespace", h.context, h.namespace, h.initCommand())
	}
	if err != nil {
		return h.explain("reading namespace "+h.namespace, err)
	}
	all, err := h.typeConfigs(ctx)
	if err != nil {
		return err
	}
	live, err := conflicts(h.program, config, all)
	if err != nil {
		return err
	}
	if err := w.crd(ctx, crd); err != nil {
		return err
	}
	if err := w.established(ctx, []*apiextv1.CustomResourceDefinition{crd}); err != nil {
		return err
	}
	return w.typeConfig(ctx, config, live)
}

// conflicts returns the FederatedTypeConfig that a type has already, if any, and refuses what would make two types
// write to one federated kind, or give a type another federated kind.
func conflicts(program string, config *corev1b1.FederatedTypeConfig, all []corev1b1.FederatedTypeConfig) (*corev1b1.FederatedTypeConfig, error) {
	federatedName := func(c *corev1b1.FederatedTypeConfig) string {
		return typeconfig.QualifiedName(c.Spec.FederatedType.PluralName, c.Spec.FederatedType.Group)
	}
	var live *corev1b1.FederatedTypeConfig
	for i := range all {
		other := &all[i]
		switch {
		case other.Name == config.Name:
			live = other
		case federatedName(other) == federatedName(config):
			return nil, fmt.Errorf("%s cannot be enabled: FederatedTypeConfig %q uses the federated kind %s already. Enable it with another --federated-group",
				config.Name, other.Name, federatedName(other))
		}
	}
	if live != nil && (federatedName(live) != federatedName(config) || live.Spec.FederatedType.Version != config.Spec.FederatedType.Version) {
		return nil, fmt.Errorf("%s is enabled already, with the federated kind %s/%s, which cannot be changed to %s/%s. Disable it first (%s disable %s), or leave out --federated-group and --federated-version",
			config.Name, federatedName(live), live.Spec.FederatedType.Version, federatedName(config), config.Spec.FederatedType.Version, program, config.Name)
	}
	return live, nil
}

// typeConfig creates a FederatedTypeConfig, or makes an existing one propagate the wanted types. Its status collection
// is not touched.
func (w *writer) typeConfig(ctx context.Context, wanted, live *corev1b1.FederatedTypeConfig) error {
	what := "federatedtypeconfig.core.kubefed.io/" + wanted.Name
	wanted.Namespace = w.host.namespace
	if live == nil {
		if !w.dryRun {
			if err := w.host.client.Create(ctx, wanted); err != nil {
				return w.host.explain("creating "+what, err)
			}
		}
		w.done(what, "created")
		w.hintGrant(wanted)
		return nil
	}
	changed := live.DeepCopy()
	changed.Spec.TargetType = wanted.Spec.TargetType
	changed.Spec.FederatedType = wanted.Spec.FederatedType
	changed.Spec.Propagation = wanted.Spec.Propagation
	if equality.Semantic.DeepEqual(live.Spec, changed.Spec) {
		w.done(what, "unchanged")
		return nil
	}
	if !w.dryRun {
		if err := w.host.client.Patch(ctx, changed, client.MergeFrom(live)); err != nil {
			return w.host.explain("updating "+what, err)
		}
	}
	w.done(what, "updated")
	return nil
}

// hintGrant says how to allow a type in members, when join does not already. kubefedctl's join grants everything.
func (w *writer) hintGrant(config *corev1b1.FederatedTypeConfig) {
	if w.name == Kubefedctl {
		return
	}
	if slices.ContainsFunc(typeconfig.Defaults(""), func(known corev1b1.FederatedTypeConfig) bool { return known.Name == config.Name }) {
		return
	}
	fmt.Fprintf(w.streams.ErrOut, "note: members that were not joined with --cluster-admin may not allow this type yet. If so, the status of the FederatedTypeConfig names them and the command that grants it:\n"+
		"  kubectl -n %s get federatedtypeconfig %s -o yaml\n", w.host.namespace, config.Name)
}
