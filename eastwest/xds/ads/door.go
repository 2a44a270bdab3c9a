package ads

import (
	"errors"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
)

// door tells of those who do not get in: a certificate of another authority, or none, or one that is too old.
type door struct {
	credentials.TransportCredentials

	server *Server
}

// ServerHandshake implements credentials.TransportCredentials.
func (d door) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := d.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) { // who hangs up at once looks whether the port is open
		d.server.metrics.refused.WithLabelValues("tls").Inc()
		d.server.refusals.Do(func() {
			d.server.log.Info("A connection was refused", "address", raw.RemoteAddr().String(), "why", err.Error())
		})
	}
	return conn, info, err //nolint:wrapcheck // gRPC looks at it
}

// Clone implements credentials.TransportCredentials.
func (d door) Clone() credentials.TransportCredentials {
	return door{d.TransportCredentials.Clone(), d.server}
}
