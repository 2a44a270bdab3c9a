package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// maxAnswer bounds what is read of an answer to see who gave it; the rest is dropped.
const maxAnswer = 64 << 10

type httpProber struct {
	url       string
	header    http.Header
	transport *http.Transport
}

func newHTTP(c Client, u *url.URL, secure *tls.Config) *httpProber {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!c.HTTP2)
	protocols.SetHTTP2(c.HTTP2)
	protocols.SetUnencryptedHTTP2(c.HTTP2)
	return &httpProber{
		url: u.String(), header: c.Header,
		transport: &http.Transport{ // no proxy: the target is what is to be measured
			DialContext:         c.dialer().DialContext,
			TLSClientConfig:     secure,
			TLSHandshakeTimeout: c.Timeout,
			DisableKeepAlives:   c.NewConnections,
			DisableCompression:  true,
			MaxIdleConns:        c.Connections,
			MaxIdleConnsPerHost: c.Connections,
			Protocols:           protocols,
		},
	}
}

func (p *httpProber) probe(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("making a request: %w", err)
	}
	maps.Copy(request.Header, p.header)
	if id := requestOf(ctx); id != "" {
		request.Header.Set(answer.RequestHeader, id)
	}
	if host := p.header.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := p.transport.RoundTrip(request) // redirects are answers, too
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	if _, err := io.CopyN(&body, response.Body, maxAnswer); err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		if err != nil {
			return "", fmt.Errorf("reading the answer: %w", err)
		}
	} else if err != io.EOF { //nolint:errorlint // CopyN returns it as it is, and an unexpected end is something else
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	who := answer.Who(body.Bytes())
	if response.StatusCode >= 400 {
		return who, statusError(response.StatusCode)
	}
	return who, nil
}

func (p *httpProber) close() { p.transport.CloseIdleConnections() }
