package identity

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// Credentials returns what a gRPC server or client with a configuration needs. refused is told the error of each handshake
// that failed, and of a client also that the server refused it, which with TLS 1.3 comes after its own handshake is done.
// Refusals.Count is what to give.
func Credentials(config *tls.Config, refused func(error)) credentials.TransportCredentials {
	return watched{TransportCredentials: credentials.NewTLS(config), refused: refused}
}

// watched tells somebody of refusals.
type watched struct {
	credentials.TransportCredentials

	refused func(error)
}

// ServerHandshake makes the handshake.
func (w watched) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := w.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		w.refused(err)
	}
	return secure, info, err
}

// ClientHandshake makes the handshake.
func (w watched) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		w.refused(err)
		return secure, info, err
	}
	return &unanswered{Conn: secure, refused: w.refused}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (w watched) Clone() credentials.TransportCredentials {
	return watched{TransportCredentials: w.TransportCredentials.Clone(), refused: w.refused}
}

// unanswered is a connection on which the server has not said anything yet. If the first thing that it says is that it does
// not accept the client's certificate, somebody is told.
type unanswered struct {
	net.Conn

	refused  func(error)
	answered atomic.Bool
}

// Read reads, and looks at how the first attempt ends.
func (u *unanswered) Read(b []byte) (int, error) {
	n, err := u.Conn.Read(b)
	if !u.answered.Swap(true) && err != nil && ReasonOf(err) == ReasonRefusedByPeer {
		u.refused(err)
	}
	return n, err
}

// lastWords is how long a server that has hung up may take to have said why.
const lastWords = time.Second

// Write writes. If that fails because the server has hung up already, it hears why, since nobody will read any more.
func (u *unanswered) Write(b []byte) (int, error) {
	n, err := u.Conn.Write(b)
	if err != nil && !u.answered.Load() && u.SetReadDeadline(time.Now().Add(lastWords)) == nil {
		_, _ = u.Read(make([]byte, 1)) // it tells
	}
	return n, err
}
