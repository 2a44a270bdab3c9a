package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// reconnect is how long gRPC waits between attempts to connect. Its own times, of up to two minutes, would hide how
// soon a server is back.
func reconnect() backoff.Config {
	return backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}
}

type grpcProber struct {
	address string
	options []grpc.DialOption
	request *structpb.Struct
	header  metadata.MD
	kept    *grpc.ClientConn // nil: a new one for each request
}

func newGRPC(c Client, u *url.URL, secure *tls.Config) (*grpcProber, error) {
	request, err := message(u.Query())
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	dialer := c.dialer()
	p := &grpcProber{
		address: "passthrough:///" + u.Host, // the dialer resolves the name, for each connection
		request: request,
		header:  metadata.MD{},
		options: []grpc.DialOption{
			grpc.WithTransportCredentials(transport),
			grpc.WithNoProxy(),
			grpc.WithIdleTimeout(0),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect(), MinConnectTimeout: c.Timeout}),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", address)
			}),
		},
	}
	for name, values := range c.Header {
		p.header.Append(strings.ToLower(name), values...)
	}
	if host := c.Header.Get("Host"); host != "" {
		delete(p.header, "host")
		p.options = append(p.options, grpc.WithAuthority(host))
	}
	if u.Scheme == XDS {
		p.address = XDS + "://" + u.Path // names, addresses and their order come from the control plane
	}
	if !c.NewConnections {
		p.kept, err = p.connect()
	}
	return p, err
}

// message makes a request of parameters.
func message(query url.Values) (*structpb.Struct, error) {
	fields := map[string]any{}
	for name := range query {
		if value := query.Get(name); value != "" {
			fields[name] = value
		} else {
			fields[name] = true
		}
	}
	m, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	return m, nil
}

// connect does nothing yet but check; connections are made when they are needed.
func (p *grpcProber) connect() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(p.address, p.options...)
	if err != nil {
		return nil, fmt.Errorf("making a gRPC client for %s: %w", p.address, err)
	}
	return conn, nil
}

func (p *grpcProber) probe(ctx context.Context) (string, error) {
	conn := p.kept
	if conn == nil {
		var err error
		if conn, err = p.connect(); err != nil {
			return "", err
		}
		defer func() { _ = conn.Close() }()
	}
	reply := new(structpb.Struct)
	if err := conn.Invoke(metadata.NewOutgoingContext(ctx, p.header), answer.Method, p.request, reply); err != nil {
		return "", err
	}
	fields := reply.GetFields()
	get := func(name string) string { return fields[name].GetStringValue() }
	return answer.Identity{Cluster: get("cluster"), Zone: get("zone"), Pod: get("pod"), Hostname: get("hostname")}.Name(), nil
}

func (p *grpcProber) close() {
	if p.kept != nil {
		_ = p.kept.Close()
	}
}
