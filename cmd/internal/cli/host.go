package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/join"
)

// host is the host cluster as a command uses it.
type host struct {
	program   string // that runs, for messages
	context   string // kubeconfig context, for messages
	namespace string // of the hub
	config    *rest.Config
	client    client.Client
	archive   exports.Archive // what the hub has written down of the members
}

// defaultTimeout bounds a request when --request-timeout does not.
const defaultTimeout = 30 * time.Second

// openHost prepares the clients of the host cluster. It makes no request.
func (p *program) openHost() (*host, error) {
	if p.dial != nil {
		return p.dial()
	}
	if err := p.chooseContext(); err != nil {
		return nil, err
	}
	name := *p.config.Context
	if name == "" {
		raw, err := p.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, fmt.Errorf("reading the kubeconfig: %w", err)
		}
		name = raw.CurrentContext
		if len(raw.Contexts) == 0 && *p.config.APIServer == "" && !inCluster() {
			return nil, errors.New("there is no kubeconfig, or it has no contexts. Name a file with --kubeconfig or KUBECONFIG")
		}
	}
	config, err := p.config.ToRESTConfig()
	if err != nil {
		return nil, p.explainContext(name, err)
	}
	tune(config)
	scheme, err := join.NewScheme()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		return nil, fmt.Errorf("building the scheme: %w", err)
	}
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client for context %q: %w", name, err)
	}
	return &host{
		program: p.name, context: name, namespace: p.namespace, config: config,
		client: made, archive: exports.NewConfigMaps(made, made, p.namespace),
	}, nil
}

// inCluster tells whether the program runs in a pod, where no kubeconfig is needed.
func inCluster() bool {
	_, err := rest.InClusterConfig()
	return !errors.Is(err, rest.ErrNotInCluster)
}

// chooseContext makes --host-cluster-context and --context one.
func (p *program) chooseContext() error {
	switch given := *p.config.Context; {
	case p.hostContext == "":
	case given == "" || given == p.hostContext:
		*p.config.Context = p.hostContext
	default:
		return fmt.Errorf("--host-cluster-context=%s and --context=%s name different clusters; give one of them", p.hostContext, given)
	}
	return nil
}

// contextNamespace is the namespace that -n or the context of the host cluster names.
func (p *program) contextNamespace() (string, error) {
	if err := p.chooseContext(); err != nil {
		return "", err
	}
	namespace, _, err := p.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the namespace of the context: %w", err)
	}
	return namespace, nil
}

// memberConfig reads another context of the same kubeconfig, without the flags that are meant for the host.
func (p *program) memberConfig(name string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = *p.config.KubeConfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, p.explainContext(name, err)
	}
	tune(config)
	return config, nil
}

// tune takes away the client-side rate limit and makes sure that a request ends.
func tune(config *rest.Config) {
	config.QPS = -1
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
}

// explainContext adds to an error about a context which ones there are.
func (p *program) explainContext(name string, err error) error {
	contexts := p.contexts()
	if _, ok := contexts[name]; ok || name == "" {
		return fmt.Errorf("context %q of the kubeconfig: %w", name, err)
	}
	names := sortedKeys(contexts)
	if len(names) == 0 {
		return fmt.Errorf("context %q: the kubeconfig has no contexts. Name a file with --kubeconfig or KUBECONFIG", name)
	}
	return fmt.Errorf("the kubeconfig has no context %q; it has: %s", name, strings.Join(names, ", "))
}

// contexts of the kubeconfig; none when it cannot be read.
func (p *program) contexts() map[string]*clientcmdapi.Context {
	raw, err := p.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil
	}
	return raw.Contexts
}

// initCommand is the command that prepares a host cluster.
func (h *host) initCommand() string {
	return fmt.Sprintf("%s init --host-cluster-context=%s --kubefed-namespace=%s", h.program, h.context, h.namespace)
}

// kinds asks the host which kinds it serves: all versions when a version is wanted, otherwise the preferred ones.
func (h *host) kinds(ctx context.Context, version string) (kindList, error) {
	return kindsOf(ctx, h.config, version, fmt.Sprintf("host cluster (context %q)", h.context))
}

func kindsOf(ctx context.Context, config *rest.Config, version, where string) (kindList, error) {
	lists, err := join.Resources(ctx, config, func(d discovery.DiscoveryInterface) ([]*metav1.APIResourceList, error) {
		if version == "" {
			return d.ServerPreferredResources()
		}
		_, lists, err := d.ServerGroupsAndResources()
		return lists, err
	})
	if err != nil && (len(lists) == 0 || !discovery.IsGroupDiscoveryFailedError(err)) {
		return nil, unreachable(where, config, err)
	}
	return newKindList(lists, version), nil
}

// unreachable wraps an error of a request with the cluster it went to and the next step.
func unreachable(where string, config *rest.Config, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("asking the %s: %w", where, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the %s at %s refuses the credentials: %w. %s", where, config.Host, err, join.Advice(err))
	case apierrors.ReasonForError(err) != "":
		return fmt.Errorf("the %s answered: %w", where, err)
	}
	return fmt.Errorf("the %s at %s cannot be reached: %w. %s", where, config.Host, err, join.Advice(err))
}

// explain turns the errors of a host without the federation API into what to do about it.
func (h *host) explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case apimeta.IsNoMatchError(err):
		return h.noFederation(doing)
	case apierrors.ReasonForError(err) == "" || apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: %w", doing, unreachable(fmt.Sprintf("host cluster (context %q)", h.context), h.config, err))
	}
	return fmt.Errorf("%s in the host cluster (context %q): %w", doing, h.context, err)
}

// noFederation is the error of a host cluster that nobody has prepared.
func (h *host) noFederation(doing string) error {
	return fmt.Errorf("%s: the host cluster (context %q) has no federation API. Prepare it first: %s", doing, h.context, h.initCommand())
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
