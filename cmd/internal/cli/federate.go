package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// createTimeout bounds the wait until a federated kind that was just enabled is served.
const createTimeout = 10 * time.Second

// federateFlags are the flags of federate.
type federateFlags struct {
	output     string
	filename   string
	enableType bool
	contents   bool
	skip       []string
	dryRun     bool
}

func (p *program) newFederate() *cobra.Command {
	var f federateFlags
	cmd := &cobra.Command{
		Use:   "federate (TYPE NAME | -f FILENAME)",
		Short: "Make a federated object of an object",
		Long: long(`
			Makes a federated object of an object of the host cluster, placed in all members: the object becomes the
			template, without its status and what the cluster filled in. Of its metadata, the labels are kept.

			The type has to be enabled (or use --enable-type). With --contents, everything in a namespace is federated
			with it, but for what controllers create. With --filename, objects are read from a file (- for standard
			input) and their federated objects printed as YAML; no cluster is asked.`),
		Example: p.examples(`
			# Federate the ConfigMap settings of the namespace shop
			{} federate configmap settings -n shop

			# Federate a namespace and all in it, except Secrets and the group apps
			{} federate namespace shop --contents --skip-api-resources=secrets,apps

			# Look at the federated object first
			{} federate deployment web -n shop -o yaml

			# Without a cluster
			{} federate -f app.yaml | kubectl --context=hub apply -f -`),
		ValidArgsFunction: p.completeTypes(func(kind string) bool { return !strings.HasPrefix(kind, "Federated") }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.output != "" && f.output != "yaml" {
				return usage(cmd, "unknown output format %q: yaml", f.output)
			}
			if f.filename != "" {
				if len(args) > 0 {
					return usage(cmd, "a file (%s) and a type (%s) do not go together", f.filename, args[0])
				}
				return p.federateFile(f.filename)
			}
			if err := exactly("a type (or -f FILENAME)", "the name of the object")(cmd, args); err != nil {
				return err
			}
			if f.enableType && f.output != "" {
				return usage(cmd, "--enable-type changes the cluster, and --output only prints: they do not go together")
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			return p.federate(cmd.Context(), h, args[0], args[1], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.enableType, "enable-type", "t", false, "Enable the types that are not yet")
	flags.BoolVarP(&f.enableType, "enable", "e", false, "The same as --enable-type")
	must(flags.MarkHidden("enable"))
	flags.BoolVarP(&f.contents, "contents", "c", false, "With a namespace: also federate what is in it")
	flags.StringVarP(&f.filename, "filename", "f", "", "File with objects to make federated objects of, printed as YAML; - for standard input")
	flags.StringSliceVarP(&f.skip, "skip-api-resources", "s", nil, "With --contents: types (any of their names) and API groups to leave out")
	flags.BoolVar(&f.dryRun, "dry-run", false, "Only say what would be done")
	addOutput(cmd, &f.output, "yaml")
	return cmd
}

// federateFile prints the federated objects of the objects in a file.
func (p *program) federateFile(filename string) error {
	in := p.streams.In
	if filename != "-" {
		file, err := os.Open(filename) //nolint:gosec // the file that the person named
		if err != nil {
			return fmt.Errorf("reading objects: %w", err)
		}
		defer func() { _ = file.Close() }() // only read from
		in = file
	}
	return p.federateStream(in, filename)
}

func (p *program) federateStream(in io.Reader, filename string) error {
	objects, err := readObjects(in)
	if err != nil {
		return fmt.Errorf("reading objects from %s: %w", filename, err)
	}
	made := make([]any, 0, len(objects))
	for _, object := range objects {
		federated, err := federatedFrom(guessTypeConfig(object), object)
		if err != nil {
			return fmt.Errorf("reading objects from %s: %w", filename, err)
		}
		p.warnAnnotations(object)
		made = append(made, federated)
	}
	return writeYAML(p.streams.Out, made...)
}

// warnAnnotations says that a template takes no annotations: those of an object are mostly of one cluster.
func (p *program) warnAnnotations(object *unstructured.Unstructured) {
	var lost []string
	for _, key := range sortedKeys(object.GetAnnotations()) {
		if !strings.Contains(key, "kubernetes.io/") && !strings.HasPrefix(key, "kubectl.") {
			lost = append(lost, key)
		}
	}
	if len(lost) > 0 {
		p.warn("annotations of %s %s are not in the template: %s. Add those that members should have", object.GetKind(), object.GetName(), strings.Join(lost, ", "))
	}
}

// batch is the objects of one type that become federated objects.
type batch struct {
	config  *corev1b1.FederatedTypeConfig
	enabled bool
	objects []*unstructured.Unstructured // federated ones
}

func (p *program) federate(ctx context.Context, h *host, typeName, name string, f federateFlags) error {
	order, objects, err := p.collect(ctx, h, typeName, name, f)
	if err != nil {
		return err
	}
	batches, err := p.batches(ctx, h, order, objects, f)
	if err != nil {
		return err
	}
	w := &writer{program: p, host: h, dryRun: f.dryRun}
	for _, b := range batches {
		if f.output == "yaml" {
			err = p.printBatch(b)
		} else {
			err = w.federate(ctx, b, f.contents)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printBatch(b batch) error {
	for _, made := range b.objects {
		if err := writeYAML(p.streams.Out, made); err != nil {
			return err
		}
	}
	return nil
}

// collect reads the object that a person names, and with --contents what is in it: types in order, objects by type.
func (p *program) collect(ctx context.Context, h *host, typeName, name string, f federateFlags) (kindList, map[string][]*unstructured.Unstructured, error) {
	kinds, err := h.kinds(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	kind, err := kinds.find(typeName)
	if err != nil {
		return nil, nil, fmt.Errorf("host cluster (context %q): %w", h.context, err)
	}
	if f.contents && (kind.Group != "" || kind.Kind != "Namespace") {
		return nil, nil, fmt.Errorf("--contents goes with a namespace only, not with %s", qualified(kind))
	}
	namespace := ""
	if kind.Namespaced {
		if namespace, err = p.contextNamespace(); err != nil {
			return nil, nil, err
		}
	}
	object, err := h.read(ctx, kind, namespace, name)
	if err != nil {
		return nil, nil, err
	}
	order := kindList{kind}
	objects := map[string][]*unstructured.Unstructured{}
	if f.contents {
		inside, contents, err := p.contents(ctx, h, kinds, name, f.skip)
		if err != nil {
			return nil, nil, err
		}
		order, objects = append(order, inside...), contents
	}
	objects[qualified(kind)] = []*unstructured.Unstructured{object}
	return order, objects, nil
}

// read reads the object that a person names.
func (h *host) read(ctx context.Context, kind metav1.APIResource, namespace, name string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	err := h.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	if apierrors.IsNotFound(err) {
		where := ""
		if namespace != "" {
			where = fmt.Sprintf(" in namespace %q", namespace)
		}
		return nil, fmt.Errorf("there is no %s %q%s of the host cluster (context %q)", kind.Kind, name, where, h.context)
	}
	return object, h.explain(fmt.Sprintf("reading %s %s", kind.Kind, name), err)
}

// batches makes federated objects, type by type, and refuses types that are not enabled, all at once.
func (p *program) batches(ctx context.Context, h *host, order kindList, objects map[string][]*unstructured.Unstructured, f federateFlags) ([]batch, error) {
	var made []batch
	var missing []string
	configs, err := h.typeConfigs(ctx)
	if err != nil && f.output == "" {
		return nil, err
	}
	for _, kind := range order {
		config := typeConfigNamed(configs, qualified(kind))
		b := batch{config: config, enabled: config != nil}
		if config == nil {
			if !f.enableType && f.output == "" {
				missing = append(missing, qualified(kind))
				continue
			}
			if err := mayFederate(configs, kind); err != nil {
				return nil, err
			}
			b.config = typeconfig.ForTarget(kind, "", "")
		}
		for _, object := range objects[qualified(kind)] {
			federated, err := federatedFrom(b.config, object)
			if err != nil {
				return nil, err
			}
			p.warnAnnotations(object)
			b.objects = append(b.objects, federated)
		}
		made = append(made, b)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("not enabled for propagation: %s. Enable them with --enable-type or `%s enable TYPE`, or leave them out with --skip-api-resources",
			strings.Join(missing, ", "), p.name)
	}
	return made, nil
}

// errFederated marks an object that has a federated object already.
var errFederated = errors.New("exists already")

// federate enables a type if need be and creates its federated objects. With keep, those that exist stay as they are.
func (w *writer) federate(ctx context.Context, b batch, keep bool) error {
	if !b.enabled {
		config, crd, err := w.host.resolve(ctx, typeRequest{name: b.config.Name})
		if err != nil {
			return err
		}
		if err := w.enable(ctx, config, crd); err != nil {
			return err
		}
	}
	for _, object := range b.objects {
		what := fmt.Sprintf("%s.%s/%s", b.config.Spec.FederatedType.PluralName, b.config.Spec.FederatedType.Group, object.GetName())
		suffix := ""
		if object.GetNamespace() != "" {
			suffix = " in namespace " + object.GetNamespace()
		}
		if w.dryRun {
			w.say("%s created (dry run)%s", what, suffix)
			continue
		}
		switch err := w.createFederated(ctx, object, what); {
		case keep && errors.Is(err, errFederated):
			w.say("%s exists%s, kept as it is", what, suffix)
		case err != nil:
			return err
		default:
			w.say("%s created%s", what, suffix)
		}
	}
	return nil
}

// createFederated creates a federated object; a kind that was enabled a moment ago may not be served yet.
func (w *writer) createFederated(ctx context.Context, object *unstructured.Unstructured, what string) error {
	done := w.patience("waiting until the API server serves %s ...", object.GetKind())
	defer done()
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, createTimeout, true, func(ctx context.Context) (bool, error) {
		last = w.host.client.Create(ctx, object)
		if apimeta.IsNoMatchError(last) || (apierrors.IsNotFound(last) && !isNamespaceMissing(last)) {
			return false, nil
		}
		return true, nil
	})
	if err != nil && last == nil {
		last = err
	}
	if apierrors.IsAlreadyExists(last) {
		return fmt.Errorf("%s %w in namespace %q of the host cluster (context %q). Change the federated object itself, or delete it first",
			what, errFederated, object.GetNamespace(), w.host.context)
	}
	return w.host.explain("creating "+what, last)
}

// isNamespaceMissing tells a namespace that does not exist from a kind that is not served (yet).
func isNamespaceMissing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == "namespaces"
}

// skipped types hold what controllers create, in each cluster anew.
func skippedTypes() []string {
	return []string{
		"endpoints", "endpointslices.discovery.k8s.io", "events", "events.events.k8s.io", "leases.coordination.k8s.io",
		"controllerrevisions.apps", "propagatedversions.core.kubefed.io",
	}
}

// contents lists what a namespace holds and a person put there, with the types in order.
func (p *program) contents(ctx context.Context, h *host, kinds kindList, namespace string, skip []string) (kindList, map[string][]*unstructured.Unstructured, error) {
	configs := &corev1b1.FederatedTypeConfigList{}
	if err := h.client.List(ctx, configs, client.InNamespace(h.namespace)); err != nil && !apimeta.IsNoMatchError(err) {
		return nil, nil, h.explain("listing FederatedTypeConfigs", err)
	}
	done := p.patience("reading everything in namespace %s ...", namespace)
	defer done()
	var order kindList
	found := map[string][]*unstructured.Unstructured{}
	for _, kind := range kinds {
		if !kind.Namespaced || !slices.Contains(kind.Verbs, "list") || leftOut(kind, append(skippedTypes(), skip...)) || hubsOwn(kind, configs.Items) {
			continue
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind + "List"})
		err := h.client.List(ctx, list, client.InNamespace(namespace))
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			continue
		}
		if err != nil {
			return nil, nil, h.explain(fmt.Sprintf("listing %s in namespace %s", qualified(kind), namespace), err)
		}
		for i := range list.Items {
			if !ofController(&list.Items[i]) {
				found[qualified(kind)] = append(found[qualified(kind)], &list.Items[i])
			}
		}
		if len(found[qualified(kind)]) > 0 {
			order = append(order, kind)
		}
	}
	return order, found, nil
}

// leftOut tells whether any of the names means a type or its group.
func leftOut(kind metav1.APIResource, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return name != "" && (strings.EqualFold(name, kind.Group) || answersTo(kind, name))
	})
}

// hubsOwn tells whether a kind is federated or of the hub itself.
func hubsOwn(kind metav1.APIResource, configs []corev1b1.FederatedTypeConfig) bool {
	return strings.HasSuffix(kind.Group, ".kubefed.io") || federates(configs, kind)
}

// ofController tells whether each cluster makes an object by itself: it has a controlling owner, or is one of those
// that every namespace gets.
func ofController(object *unstructured.Unstructured) bool {
	if metav1.GetControllerOf(object) != nil {
		return true
	}
	switch object.GetKind() {
	case "ConfigMap":
		return object.GetName() == "kube-root-ca.crt"
	case "ServiceAccount":
		return object.GetName() == "default"
	case "Secret":
		kind, _, _ := unstructured.NestedString(object.Object, "type")
		return kind == "kubernetes.io/service-account-token"
	case "Service":
		return object.GetName() == "kubernetes" && object.GetNamespace() == "default"
	}
	return false
}
