package probe_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/hansa-dev/hansa/e2e/node/probe"
)

func target(t *testing.T, addr net.Addr) probe.Target {
	t.Helper()
	a := netip.MustParseAddrPort(addr.String())
	return probe.Target{
		Host:      a.Addr().String(),
		Container: &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "named", ContainerPort: int32(a.Port())}}},
	}
}

func ask(t *testing.T, h corev1.ProbeHandler, to probe.Target) probe.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return probe.Ask(ctx, h, to)
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("a") != "b" || r.Host != "name.example" || r.Header.Get("X") != "y" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.Handle("/moved", http.RedirectHandler("/bad", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://elsewhere.invalid/", http.StatusFound))
	plain := httptest.NewServer(mux)
	defer plain.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	named := intstr.FromString("named")
	for _, test := range []struct {
		reason string
		server *httptest.Server
		action corev1.HTTPGetAction
		ok     bool
		output string
	}{
		{reason: "a good answer", server: plain, action: corev1.HTTPGetAction{Path: "/ok", Port: named}, ok: true},
		{reason: "a bad answer", server: plain, action: corev1.HTTPGetAction{Path: "/bad", Port: named}, output: "HTTP probe failed with statuscode: 503"},
		{reason: "a path without a slash", server: plain, action: corev1.HTTPGetAction{Path: "ok", Port: named}, ok: true},
		{reason: "a certificate is not looked at", server: secure, action: corev1.HTTPGetAction{Path: "/ok", Port: named, Scheme: corev1.URISchemeHTTPS}, ok: true},
		{
			reason: "query and headers arrive", server: plain, ok: true,
			action: corev1.HTTPGetAction{Path: "/query?a=b", Port: named, HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "name.example"}, {Name: "X", Value: "y"}}},
		},
		{reason: "redirections are followed", server: plain, action: corev1.HTTPGetAction{Path: "/moved", Port: named}, output: "HTTP probe failed with statuscode: 503"},
		{reason: "but not to elsewhere", server: plain, action: corev1.HTTPGetAction{Path: "/away", Port: named}, ok: true},
		{reason: "a port that the container does not have", server: plain, action: corev1.HTTPGetAction{Path: "/ok", Port: intstr.FromString("no")}, output: "container c has no port no"},
	} {
		got := ask(t, corev1.ProbeHandler{HTTPGet: &test.action}, target(t, test.server.Listener.Addr()))
		if got.OK != test.ok || !test.ok && got.Output != test.output {
			t.Errorf("%s: %+v, want %v %s", test.reason, got, test.ok, test.output)
		}
	}
}

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := target(t, listener.Addr())
	handler := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("named")}}
	if got := ask(t, handler, to); !got.OK {
		t.Errorf("a port that is listened on: %+v", got)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, handler, to); got.OK || !strings.Contains(got.Output, "refused") {
		t.Errorf("a port that nobody listens on: %+v", got)
	}
}

func TestExec(t *testing.T) {
	for _, test := range []struct {
		reason string
		output string
		code   int
		err    error
		want   probe.Result
	}{
		{"success", "fine", 0, nil, probe.Result{OK: true, Output: "fine"}},
		{"failure", "not fine", 1, nil, probe.Result{Output: "not fine"}},
		{"no such command", "", 0, errors.New("no such command"), probe.Result{Output: "no such command"}},
	} {
		to := probe.Target{Exec: func(context.Context, []string) (string, int, error) { return test.output, test.code, test.err }}
		if got := ask(t, corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}, to); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.reason, got, test.want)
		}
	}
}

func TestGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	states := health.NewServer()
	states.SetServingStatus("well", grpc_health_v1.HealthCheckResponse_SERVING)
	states.SetServingStatus("ill", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, states)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	to := target(t, listener.Addr())
	for _, test := range []struct {
		reason  string
		service *string
		ok      bool
		output  string
	}{
		{"the server as a whole", nil, true, ""},
		{"a service that is well", new("well"), true, ""},
		{"a service that is not", new("ill"), false, "NOT_SERVING"},
		{"a service that there is not", new("none"), false, `gRPC status "5"`},
	} {
		got := ask(t, corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: to.Container.Ports[0].ContainerPort, Service: test.service}}, to)
		if got.OK != test.ok || !strings.Contains(got.Output, test.output) {
			t.Errorf("%s: %+v, want %v %s", test.reason, got, test.ok, test.output)
		}
	}
}

func TestCourse(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		reason  string
		spec    corev1.Probe
		eager   bool
		answers string // + and -
		want    string // after each answer: what was made up, or . for nothing; lower case for one that does not count
	}{
		{"a readiness probe believes the first good answer", corev1.Probe{PeriodSeconds: 10}, true, "+", "R"},
		{"bad answers right after the start do not count", corev1.Probe{PeriodSeconds: 10}, true, "---+", "...R"},
		{"after that, three bad ones in a row do", corev1.Probe{PeriodSeconds: 10}, true, "+--+---", "R.....N"},
		{"or as many as it says", corev1.Probe{PeriodSeconds: 10, FailureThreshold: 1}, true, "+-+", "RNR"},
		{"it may want several good ones", corev1.Probe{PeriodSeconds: 10, SuccessThreshold: 2}, true, "++-++", ".R..."},
		{"a liveness probe counts from the first answer on", corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, false, "--", ".N"},
	} {
		course := probe.NewCourse(&test.spec, test.eager)
		now := start.Add(course.First())
		var got strings.Builder
		for _, answer := range test.answers {
			v := course.Answer(answer == '+', now)
			now = now.Add(v.Pause)
			switch {
			case v.Changed && answer == '+':
				got.WriteByte('R')
			case v.Changed:
				got.WriteByte('N')
			default:
				got.WriteByte('.')
			}
		}
		if got.String() != test.want {
			t.Errorf("%s: %s gives %s, want %s", test.reason, test.answers, got.String(), test.want)
		}
	}
}

func TestCourseIsEager(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	course := probe.NewCourse(&corev1.Probe{PeriodSeconds: 10, FailureThreshold: 2}, true)
	now, asked, counted := start, 0, 0
	for {
		v := course.Answer(false, now)
		asked++
		if v.Counted {
			counted++
		}
		if v.Changed {
			break
		}
		now = now.Add(v.Pause)
	}
	if took := now.Sub(start); took != 20*time.Second || counted != 2 {
		t.Errorf("a container that is never well is given up after %s and %d answers, want 20s and 2", took, counted)
	}
	if asked < 10 {
		t.Errorf("in that time it was asked %d times, which is not often", asked)
	}
}
