package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Classes of errors, beside "http-STATUS" such as "http-503" and "grpc-CODE" such as "grpc-Unavailable".
const (
	Timeout     = "timeout"     // no answer in time, wherever the time went
	Refused     = "refused"     // nobody listens there
	Reset       = "reset"       // the connection was reset
	Closed      = "closed"      // the connection was closed before the answer was complete
	Unreachable = "unreachable" // there is no way there
	DNS         = "dns"         // the name does not resolve
	TLS         = "tls"         // the server's certificate is not accepted, or there is no agreement
	BadAnswer   = "bad-answer"  // an answer that is not what was asked for
	Overload    = "overload"    // not sent: as many requests as allowed are under way
	Other       = "other"
)

// statusError is an HTTP status that is no success.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// errBadAnswer is wrapped by errors about answers that are not what was asked for.
var errBadAnswer = errors.New("unexpected answer")

// Classify returns the class of an error of a request, and "" for nil. A time that was up comes before the reason that
// it had.
func Classify(err error) string {
	var code statusError
	var resolving *net.DNSError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &code):
		return fmt.Sprintf("http-%d", int(code))
	case errors.Is(err, errBadAnswer):
		return BadAnswer
	case errors.As(err, &resolving) && !resolving.IsTimeout:
		return DNS
	case isTimeout(err):
		return Timeout
	case isTLS(err):
		return TLS
	}
	if class := classifyConnection(err); class != "" {
		return class
	}
	if s, ok := status.FromError(err); ok {
		return "grpc-" + s.Code().String()
	}
	return Other
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &e) && e.Timeout() ||
		status.Code(err) == codes.DeadlineExceeded
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &authority)
}

func classifyConnection(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return Unreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		strings.Contains(err.Error(), "server closed idle connection"): // net/http has no value for it
		return Closed
	}
	return ""
}
