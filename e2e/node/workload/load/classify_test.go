package load_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/e2e/node/workload/load"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		reason string
		err    error
		want   string
	}{
		{"no error, no class", nil, ""},
		{"the time is up", context.DeadlineExceeded, load.Timeout},
		{"the time is up while reading", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, load.Timeout},
		{"the kernel has given up", &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, load.Timeout},
		{"the server's deadline is ours", status.Error(codes.DeadlineExceeded, ""), load.Timeout},
		{"time comes before what it was spent on", fmt.Errorf("%w: %w", context.DeadlineExceeded, syscall.ECONNRESET), load.Timeout},
		{"a name server that does not answer is slow, and the name may exist", &net.DNSError{IsTimeout: true}, load.Timeout},
		{"a name that does not exist", &net.DNSError{IsNotFound: true}, load.DNS},
		{"nobody listens", &url.Error{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}, load.Refused},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, load.Reset},
		{"written to a connection that was reset", &net.OpError{Op: "write", Err: syscall.EPIPE}, load.Reset},
		{"no route", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, load.Unreachable},
		{"no network", &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, load.Unreachable},
		{"the end of the connection", &url.Error{Err: io.EOF}, load.Closed},
		{"the end in the middle of an answer", io.ErrUnexpectedEOF, load.Closed},
		{"gRPC's codes", status.Error(codes.Unavailable, "connection refused"), "grpc-Unavailable"},
		{"what nobody has thought of", errors.New("oh"), load.Other},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if got := load.Classify(test.err); got != test.want {
				t.Errorf("Classify(%v) = %q, want %q", test.err, got, test.want)
			}
		})
	}
}
