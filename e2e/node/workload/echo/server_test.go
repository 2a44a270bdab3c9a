package echo_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
)

const patience = 10 * time.Second

// running is a server that serves.
type running struct {
	*echo.Server

	end  context.CancelFunc // as SIGTERM does
	done chan error         // gets what Run returns
}

// serve starts a server on all protocols that need no certificate.
func serve(t *testing.T, change func(*echo.Config)) *running {
	t.Helper()
	config := echo.Config{
		Identity: answer.Identity{Cluster: "m1", Zone: "z", Pod: "p", Version: "v1"},
		HTTP:     "127.0.0.1:0", TCP: "127.0.0.1:0", UDP: "127.0.0.1:0", GRPC: "127.0.0.1:0",
		Grace: patience, MaxWaiting: 4,
	}
	if change != nil {
		change(&config)
	}
	server, err := echo.Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Server: server, end: cancel, done: make(chan error, 1)}
	go func() { r.done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.Release()
		r.wait(t)
	})
	return r
}

// wait waits until the server has ended without an error.
func (r *running) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		r.done <- nil
	case <-time.After(2 * patience):
		t.Error("the server does not end")
	}
}

// at returns where a protocol is served.
func (r *running) at(protocol string) string { return r.Addr(protocol).String() }

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s still not: %s", patience, what)
		case <-ticker.C:
		}
	}
}

// parse reads an answer.
func parse(t *testing.T, data []byte) answer.Answer {
	t.Helper()
	var a answer.Answer
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatalf("%q is no answer: %v", data, err)
	}
	return a
}

func TestListenRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	tests := []struct {
		reason string
		config echo.Config
		wrong  string
	}{
		{"an address that is taken is named", echo.Config{UDP: "127.0.0.1:0", TCP: taken.Addr().String()}, "listening for tcp: listen tcp " + taken.Addr().String()},
		{"encryption needs a certificate", echo.Config{HTTPS: "127.0.0.1:0"}, "need a certificate and its key"},
		{"a certificate that cannot be read", echo.Config{GRPCS: "127.0.0.1:0", CertFile: "/nowhere", KeyFile: "/nowhere"}, "reading the certificate"},
		{"nothing to serve", echo.Config{}, "nothing to serve"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			if _, err := echo.Listen(test.config); err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("error is %v, want one with %q", err, test.wrong)
			}
		})
	}
}

// A Listen that fails half-way gives back what it has taken.
func TestListenTakesAllOrNothing(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Listen(echo.Config{HTTP: address, TCP: address}); err == nil {
		t.Fatal("two protocols share an address")
	}
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	_ = again.Close()
}
