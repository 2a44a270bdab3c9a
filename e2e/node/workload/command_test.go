package workload_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload"
)

// execute runs a command line.
func execute(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = workload.Main(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestCommandLines(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("m1/z/p v1\n")) }))
	defer good.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	tests := []struct {
		reason         string
		args           string
		status         int
		stdout, stderr string // parts
	}{
		{"help is no error", "--help", 0, "echo ", ""},
		{"no command is one", "", 2, "echo ", "name a command"},
		{"a typing error", "ehco", 2, "", `unknown command "ehco"`},
		{"a flag that is not known", "load --rat 1", 2, "", "see workload load --help"},
		{"a value that is wrong", "load --connections old http://a", 2, "", "want reuse or new"},
		{"a target is missing", "load", 2, "", "requires at least 1 arg"},
		{"a target that is none", "load a.b", 2, "", `target "a.b"`},
		{"a header that is none", "load --header x http://a", 2, "", "want NAME:VALUE"},
		{"a rate that is no number", "load --rate NaN http://a", 2, "", "rate is NaN"},
		{"a load", "load --duration 50ms --rate 100 --exit-code --header A:b " + good.URL, 0, `"answers":{"m1/z/p":5}`, ""},
		{"failures are an outcome", "load --duration 50ms --rate 100 " + bad.URL, 0, `"errors":{"http-404":5}`, ""},
		{"unless none may be", "load --duration 50ms --rate 100 --exit-code " + bad.URL, 1, `"type":"summary"`, "5 of 5 requests failed, and at most 0 may"},
		{"or not so many", "load --duration 50ms --rate 100 --max-failures 4 " + bad.URL, 1, `"type":"summary"`, "at most 4"},
		{"as many as may", "load --duration 50ms --rate 100 --max-failures 5 " + bad.URL, 0, `"type":"summary"`, ""},
		{"the first success is enough", "load --duration 0 --until-success --exit-code " + good.URL, 0, `"ok":1`, ""},
		{"no success is not", "load --duration 50ms --until-success " + bad.URL, 1, `"ok":0`, "none of 1 requests succeeded"},
		{"waiting for who is there", "wait " + good.URL, 0, "m1/z/p\n", ""},
		{"waiting for a port", "wait " + taken.Addr().String(), 0, "", ""},
		{"waiting in vain", "wait --patience 500ms --interval 1ms " + bad.URL, 1, "", "the last attempt failed: status 404"},
		{"a server without an address", "echo --http= --tcp= --udp= --grpc=", 1, "", "nothing to serve"},
		{"a server whose address is taken", "echo --http " + taken.Addr().String(), 1, "", "listening for http"},
	}
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			status, stdout, stderr := execute(t, strings.Fields(test.args)...)
			if status != test.status || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit status %d, want %d; stdout, want %q in it:\n%s\nstderr, want %q in it:\n%s",
					status, test.status, test.stdout, stdout, test.stderr, stderr)
			}
		})
	}
}

// Help names what the server does and does not depend on who asks.
func TestEchoHelp(t *testing.T) {
	t.Setenv("CLUSTER", "secret")
	_, help, _ := execute(t, "echo", "--help")
	for _, word := range []string{
		"/control", "/ready", "/live", "/bytes", "/echo", "status=", "delay=", "?hang", "?drop", "?close", "?plain", "?size=",
		"failRate", "protocols", "$POD_NAME", "--drain", "/Stream",
	} {
		if !strings.Contains(help, word) {
			t.Errorf("help does not tell of %s", word)
		}
	}
	if strings.Contains(help, "secret") {
		t.Error("help shows the environment of whoever asks")
	}
}

// The server is told by its environment who it is, and by flags otherwise.
func TestEchoIdentity(t *testing.T) {
	for name, value := range map[string]string{
		"CLUSTER": "m1", "REGION": "r", "ZONE": "z", "NODE_NAME": "n", "POD_NAME": "p", "POD_NAMESPACE": "ns", "POD_IP": "10.1.1.2", "VERSION": "v1",
	} {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	addresses := make(chan string, 1)
	go func() {
		done <- workload.Main(ctx, []string{"echo", "--http", "127.0.0.1:0", "--tcp=", "--udp=", "--grpc=", "--zone", "z2"}, &bytes.Buffer{}, addressWriter(addresses))
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+<-addresses+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	want := `{"cluster":"m1","region":"r","zone":"z2","node":"n","namespace":"ns","pod":"p","ip":"10.1.1.2","version":"v1","hostname":`
	if !strings.HasPrefix(body.String(), want) {
		t.Errorf("the answer is %s, want %s…", body.String(), want)
	}
	cancel()
	if status := <-done; status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// addressWriter reads the address of the server from its log.
type addressWriter chan<- string

func (w addressWriter) Write(line []byte) (int, error) {
	if _, rest, ok := strings.Cut(string(line), `"address":"`); ok {
		address, _, _ := strings.Cut(rest, `"`)
		w <- address
	}
	return len(line), nil
}
