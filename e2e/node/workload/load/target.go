package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// XDS is the scheme of targets that a control plane knows.
const XDS = "xds"

// Client says how requests are made.
type Client struct {
	Timeout        time.Duration // of each request, from its sending on
	NewConnections bool          // one for each request
	CAFile         string        // PEM certificates to trust instead of the system's
	ServerName     string        // expected in the server's certificate and sent to it; default: the target's host
	Header         http.Header   // added to HTTP requests and to gRPC metadata; Host sets the host
	HTTP2          bool          // HTTP/2 for http and https targets
	Connections    int           // kept open and idle, at most
}

// prober makes requests to one target. It is safe for concurrent use.
type prober interface {
	// probe makes one request, and returns who answered as in answer.Who.
	probe(ctx context.Context) (who string, err error)
	// close closes connections that are kept.
	close()
}

// ParseTarget checks a target and returns it as a URL.
func ParseTarget(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", target, errors.Unwrap(err))
	}
	switch u.Scheme {
	case answer.HTTP, answer.HTTPS:
		if u.Hostname() == "" {
			return nil, fmt.Errorf("target %q has no host", target)
		}
	case answer.TCP, answer.UDP, answer.GRPC, answer.GRPCS:
		if u.Hostname() == "" || u.Port() == "" {
			return nil, fmt.Errorf("target %q needs a host and a port, like %s://HOST:PORT", target, u.Scheme)
		}
		if strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("target %q has a path, which %s does not know", target, u.Scheme)
		}
	case XDS:
		name := strings.TrimPrefix(u.Path, "/")
		if _, port, err := net.SplitHostPort(name); u.Host != "" || err != nil || port == "" {
			return nil, fmt.Errorf("target %q: want xds:///NAME:PORT, with three slashes", target)
		}
		if resolver.Get(XDS) == nil {
			return nil, fmt.Errorf("target %q: this program does not speak xDS: use xdsload", target)
		}
	default:
		return nil, fmt.Errorf("target %q: want a URL that begins with one of %s://", target, strings.Join(append(answer.Protocols(), XDS), "://, "))
	}
	return u, nil
}

// prober returns what makes requests to a target.
func (c Client) prober(target string) (prober, error) {
	u, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	if u.Scheme == answer.HTTPS || u.Scheme == answer.GRPCS {
		if secure, err = c.tls(); err != nil {
			return nil, err
		}
	}
	switch u.Scheme {
	case answer.TCP, answer.UDP:
		return newLines(c, u), nil
	case answer.GRPC, answer.GRPCS, XDS:
		return newGRPC(c, u, secure)
	}
	return newHTTP(c, u, secure), nil
}

func (c Client) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the certificates to trust: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no PEM certificate", c.CAFile)
	}
	return config, nil
}

// dialer resolves names anew for each connection.
func (c Client) dialer() *net.Dialer { return &net.Dialer{Timeout: c.Timeout} }
