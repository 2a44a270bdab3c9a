package outbound_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway/outbound"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// flies sets FirstFlight.
func flies(b *clusterset.Builder, o *outbound.Options) {
	b.SetPolicy(web, clusterset.Policy{FirstFlight: true, Failover: []clusterset.Tier{{By: clusterset.ByCluster}, {By: clusterset.ByRegion}, {By: clusterset.Any}}})
	o.FlightTimeout = 200 * time.Millisecond
}

// TestFirstFlight holds that what a client says at once goes with the request, on one way at a time.
func TestFirstFlight(t *testing.T) {
	first, second := newPod(t, nil), newPod(t, nil)
	m2, m3 := &far{pod: first}, &far{pod: second}
	w := start(t, tunnels{gateway2: m2, gateway3: m3}, flies)
	w.must("hello")
	if got := *m2.data.Load(); got != "hello\n" {
		t.Errorf("%q goes with the request", got)
	}

	// Refused before anything was delivered: the next way has it.
	m2.breaks(&tunnel.Refused{Code: tunnel.NoEndpoint})
	w.must("again")
	if got := *m3.data.Load(); got != "again\n" {
		t.Errorf("%q goes with the second request", got)
	}

	// It may have been delivered: nobody else gets it.
	opens := m3.opens.Load()
	m3.breaks(fmt.Errorf("the tunnel died: %w", tunnel.ErrUncertain))
	if _, err := w.ask("lost"); err == nil {
		t.Error("a request was answered that must not be sent twice")
	}
	if w.stats().Refused["uncertain"] != 1 || m3.opens.Load() != opens+1 {
		t.Errorf("got %v", w.stats().Refused)
	}
	m2.breaks(nil)
	m3.breaks(nil)

	// It is slow: no race, since both might deliver.
	m2.delay = 0
	duplicates(t, first, second)
	if w.stats().Races != 0 {
		t.Error("something has raced")
	}
}

// TestFirstFlightSilent holds that a client that waits for the server to begin is served too, and by a race.
func TestFirstFlightSilent(t *testing.T) {
	p := newPod(t, func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "220 ready\n")
		_ = conn.Close()
	})
	m2 := hole()
	w := start(t, tunnels{gateway2: m2, gateway3: {pod: p}}, flies)
	client := w.dial()
	got, err := io.ReadAll(client)
	if err != nil || string(got) != "220 ready\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if *m2.data.Load() != "" || w.stats().Races != 1 {
		t.Errorf("races: %d", w.stats().Races)
	}
}

// TestFirstFlightDirect holds that pods that are reached directly get what the client says once, after they have the
// connection.
func TestFirstFlightDirect(t *testing.T) {
	p := newPod(t, nil)
	w := start(t, tunnels{}, func(b *clusterset.Builder, o *outbound.Options) {
		local(p)(b, o)
		flies(b, o)
	})
	w.must("one")
	client := w.dial()
	_ = relay.TCP(client).Reset()
	until(t, "it has left", func() bool { return w.stats().Open == 0 })
	w.must("two")
	duplicates(t, p)
}

func TestTrace(t *testing.T) {
	p := newPod(t, nil)
	echo := &far{pod: p}
	w := start(t, tunnels{gateway2: echo}, nil)
	trace := func(port string) string {
		var lines []string
		for _, hop := range w.gateway.Trace(context.Background(), web, port) {
			if hop.Took < 0 || hop.Took > patience {
				t.Errorf("%s took %v", hop.Step, hop.Took)
			}
			lines = append(lines, fmt.Sprintf("%s %s %s", hop.Step, hop.At, hop.Problem))
		}
		return strings.Join(lines, "\n")
	}
	for name, test := range map[string]struct {
		reason string
		before func()
		port   string
		want   string
	}{
		"ByName":   {"each step", nil, "http", "decide http: 0. m2 (1 gateways, weight 1) \ntunnel gateway 192.0.2.2:15445 of cluster m2 \nconnect cluster m2 through 192.0.2.2:15445 "},
		"ByNumber": {"each step", nil, "80", "decide http: 0. m2 (1 gateways, weight 1) \ntunnel gateway 192.0.2.2:15445 of cluster m2 \nconnect cluster m2 through 192.0.2.2:15445 "},
		"NoPort":   {"which there is not", nil, "81", `decide shop/web the service has no port "81"`},
		"Refused": {"why", func() { echo.breaks(&tunnel.Refused{Code: tunnel.NoEndpoint, Message: "no pod"}) }, "", "decide http: 0. m2 (1 gateways, weight 1) \n" +
			"connect  all-failed: m2 through 192.0.2.2:15445: the other gateway refused: no endpoint: no pod"},
	} {
		t.Run(name, func(t *testing.T) {
			echo.breaks(nil)
			if test.before != nil {
				test.before()
			}
			if got := trace(test.port); got != test.want {
				t.Errorf("%s: got\n%s\nwant\n%s", test.reason, got, test.want)
			}
		})
	}
	if p.seen() > 1 { // what the probe says, since this opener knows no probes
		t.Error("a trace has sent something to a pod")
	}
	if got := w.gateway.Trace(context.Background(), clusterset.Key{Namespace: "shop", Name: "none"}, ""); len(got) != 1 || got[0].Problem == "" {
		t.Errorf("got %v for a service that does not exist", got)
	}
	until(t, "nothing is open", func() bool { return w.stats().Peers[0].Open == 0 })
}

// TestMetrics holds that what is counted is told, and in a form that others read.
func TestMetrics(t *testing.T) {
	p := newPod(t, nil)
	m2 := &far{pod: p}
	w := start(t, tunnels{gateway2: m2, gateway3: {pod: p}}, nil)
	w.must("1")
	m2.breaks(io.ErrUnexpectedEOF)
	w.must("2")
	until(t, "both have ended", func() bool { return w.stats().Open == 0 })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.gateway)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"hansa_outbound_peer_connections_total": 2, "hansa_outbound_peer_ended_total": 2, "hansa_outbound_peer_bytes_total": 8,
		"hansa_outbound_peer_errors_total": 1, "hansa_outbound_peer_ejections_total": 1, "hansa_outbound_peer_races_won_total": 1,
		"hansa_outbound_peer_connect_seconds": 2,
	} {
		if sums[name] != want {
			t.Errorf("%s is %g, want %g", name, sums[name], want)
		}
	}
}
