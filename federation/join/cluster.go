package join

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// reachTimeout bounds the first request to a cluster. A cluster that takes longer is as good as away for a person who
// waits, and every later request is made only after the first one was answered.
const reachTimeout = 10 * time.Second

// Cluster is one side of a join: a cluster as the kubeconfig of the person who joins knows it.
type Cluster struct {
	// Name is how messages call it: the member's name, or "the host cluster".
	Name string
	// Context is the kubeconfig context it comes from; only messages use it.
	Context string
	// Config is how to reach it with the person's own credentials.
	Config *rest.Config

	client client.Client
}

// NewScheme returns a scheme of the kinds that the commands of a person read and write in a host and in members.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistrationv1.AddToScheme, apiextv1.AddToScheme, authorizationv1.AddToScheme, corev1.AddToScheme,
		rbacv1.AddToScheme, corev1b1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// open prepares the clients. It makes no request: a dead cluster is found out by reach.
func (c *Cluster) open() error {
	scheme, err := NewScheme()
	if err != nil {
		return err
	}
	config := rest.CopyConfig(c.Config)
	config.QPS = -1
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("%s: making a client for context %q: %w", c.Name, c.Context, err)
	}
	c.client = made
	return nil
}

// reach asks a cluster for its version. Errors say which context and endpoint did not answer, why, and what to do.
func (c *Cluster) reach(ctx context.Context) (*version.Info, error) {
	info, err := serverVersion(ctx, c.Config)
	if err != nil {
		return nil, fmt.Errorf("%s (context %q, endpoint %s) cannot be reached: %w\n%s",
			c.Name, c.Context, c.Config.Host, err, Advice(err))
	}
	return info, nil
}

// serverVersion asks the API server that a config leads to for its version.
func serverVersion(ctx context.Context, config *rest.Config) (*version.Info, error) {
	short := rest.CopyConfig(config)
	short.Timeout = reachTimeout
	asking, err := discovery.NewDiscoveryClientForConfig(short)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	body, err := asking.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	return parseVersion(body)
}

// Resources asks an API server which kinds it serves. Unlike discovery itself it returns when the context ends, or the
// timeout of the configuration.
func Resources(ctx context.Context, config *rest.Config, ask func(discovery.DiscoveryInterface) ([]*metav1.APIResourceList, error)) ([]*metav1.APIResourceList, error) {
	asking, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, config.Timeout)
		defer cancel()
	}
	type answer struct {
		lists []*metav1.APIResourceList
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		lists, err := ask(asking)
		answers <- answer{lists, err}
	}()
	select {
	case a := <-answers:
		return a.lists, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Advice is the next step after a cluster did not answer, or refused, with the credentials of a kubeconfig context.
func Advice(err error) string {
	var (
		unknownCA x509.UnknownAuthorityError
		wrongHost x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "It was interrupted."
	case errors.As(err, &unknownCA):
		return "The server's certificate is not signed by the CA of the context. Check certificate-authority-data in the kubeconfig."
	case errors.As(err, &wrongHost):
		return "The server's certificate is for another name. Check the server address in the kubeconfig."
	case errors.As(err, &invalid):
		return "The server's certificate is not valid (expired, or not yet valid). Renew it, or check the clocks."
	case apierrors.IsUnauthorized(err):
		return "The server does not accept the credentials of the context. Renew them and try again."
	case apierrors.IsForbidden(err):
		return "The user of the context may not do this. Use a context with the rights of a cluster admin."
	}
	return "Check that the cluster runs, and that the context and its server address are the right ones (kubectl config get-contexts)."
}

// proxyOf returns the proxy that a kubeconfig names for a cluster; empty when it names none. Proxies of the
// environment are this machine's and are not handed to the hub.
func proxyOf(config *rest.Config) (string, error) {
	if config.Proxy == nil {
		return "", nil
	}
	endpoint, err := url.Parse(config.Host)
	if err != nil {
		return "", fmt.Errorf("endpoint %q: %w", config.Host, err)
	}
	proxy, err := config.Proxy(&http.Request{URL: endpoint})
	if err != nil {
		return "", fmt.Errorf("proxy of endpoint %q: %w", config.Host, err)
	}
	if proxy == nil {
		return "", nil
	}
	return proxy.String(), nil
}
