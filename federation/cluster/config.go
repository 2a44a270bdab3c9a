package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// ErrMalformed marks a registration that cannot be turned into a client: a missing Secret or token, a CA that does
// not parse, an endpoint or proxy that is no URL.
var ErrMalformed = errors.New("cluster configuration is malformed")

// dialTimeout bounds dialling and the TLS handshake; each request carries a deadline of its own besides.
const dialTimeout = 10 * time.Second

// RESTConfig returns how to reach a member: its endpoint and CA from the KubeFedCluster, its bearer token from the
// Secret that spec.secretRef names. TLS is verified unless spec.disabledTLSValidations says otherwise, and there is no
// client-side rate limit: the member's own priority and fairness decides, and 429 answers are honoured.
// Errors are ErrMalformed and name the cluster.
func RESTConfig(member *corev1b1.KubeFedCluster, secret *corev1.Secret) (*rest.Config, error) {
	malformed := func(format string, args ...any) error {
		return fmt.Errorf("cluster %q: %w: %w", member.Name, ErrMalformed, fmt.Errorf(format, args...))
	}
	if member.Spec.APIEndpoint == "" {
		return nil, malformed("spec.apiEndpoint is empty")
	}
	if secret == nil {
		return nil, malformed("Secret %q named by spec.secretRef.name does not exist in namespace %q", member.Spec.SecretRef.Name, member.Namespace)
	}
	token := secret.Data[api.TokenKey]
	if len(token) == 0 {
		return nil, malformed("Secret %q has no %q key", secret.Name, api.TokenKey)
	}
	config := &rest.Config{
		Host:        member.Spec.APIEndpoint,
		BearerToken: string(token),
		QPS:         -1,
		UserAgent:   "hansa-hub",
	}
	if member.Spec.ProxyURL != "" {
		proxy, err := url.Parse(member.Spec.ProxyURL)
		if err != nil || !slices.Contains([]string{"http", "https", "socks5"}, proxy.Scheme) || proxy.Host == "" {
			return nil, malformed("spec.proxyURL %q is not an http, https or socks5 URL", member.Spec.ProxyURL)
		}
		config.Proxy = http.ProxyURL(proxy)
	}
	endpoint, _, err := rest.DefaultServerURL(config.Host, "", corev1.SchemeGroupVersion, true)
	if err != nil {
		return nil, malformed("spec.apiEndpoint %q: %w", member.Spec.APIEndpoint, err)
	}
	if len(member.Spec.CABundle) > 0 && !x509.NewCertPool().AppendCertsFromPEM(member.Spec.CABundle) {
		return nil, malformed("spec.caBundle holds no PEM certificate")
	}
	disabled := member.Spec.DisabledTLSValidations
	switch {
	case slices.Contains(disabled, corev1b1.TLSAll):
		config.Insecure = true
	case len(disabled) == 0:
		config.CAData = member.Spec.CABundle
	default:
		config.Transport = relaxedTransport(endpoint.Hostname(), member.Spec.CABundle, disabled, config.Proxy)
		config.Proxy = nil
	}
	return config, nil
}

// relaxedTransport verifies the server's chain against host, but without the checks that disabled names.
func relaxedTransport(host string, ca []byte, disabled []corev1b1.TLSValidation, proxy func(*http.Request) (*url.URL, error)) http.RoundTripper {
	var roots *x509.CertPool // nil: the system's
	if len(ca) > 0 {
		roots = x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
	}
	verify := func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		leaf := state.PeerCertificates[0]
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), DNSName: host}
		for _, cert := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(cert)
		}
		if slices.Contains(disabled, corev1b1.TLSSubjectName) {
			options.DNSName = ""
		}
		if slices.Contains(disabled, corev1b1.TLSValidityPeriod) {
			options.CurrentTime = leaf.NotBefore.Add(time.Second) // its issuers were valid when they signed it
		}
		_, err := leaf.Verify(options)
		return err
	}
	transport := &http.Transport{
		Proxy:               proxy,
		TLSHandshakeTimeout: dialTimeout,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below checks the chain, less what the user disabled
			VerifyConnection:   verify,
		},
	}
	return utilnet.SetTransportDefaults(transport)
}
