package network_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

func port(n int) string { return strconv.Itoa(n) }

func TestControl(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 3, 1, true)
		t.Run("state", func(t *testing.T) { tellsState(t, l) })
		t.Run("set", func(t *testing.T) { setsLinks(t, l) })
		t.Run("refuse", func(t *testing.T) { refusesRequests(t, l) })
		t.Run("mode", func(t *testing.T) {
			info, err := os.Stat(l.spec.Socket)
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the socket has mode %v, %v: it is the owner's alone", info.Mode(), err)
			}
		})
	})
}

func tellsState(t *testing.T, l *lab) {
	state, err := l.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.PID != os.Getpid() || !state.Flat {
		t.Errorf("pid %d, flat %v", state.PID, state.Flat)
	}
	seen := map[string]string{}
	for name, path := range state.Namespaces {
		namespace, err := os.Readlink(path)
		if err != nil || seen[namespace] != "" {
			t.Errorf("%s has %s, which %s has too, %v", name, namespace, seen[namespace], err)
		}
		seen[namespace] = name
	}
	if len(seen) != 6 {
		t.Errorf("namespaces: %v", state.Namespaces)
	}
	want := []string{"c0→c1", "c0→c2", "c1→c0", "c1→c2", "c2→c0", "c2→c1"}
	if diff := cmp.Diff(want, directions(state.Links)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func directions(links []network.Link) []string {
	var all []string
	for _, link := range links {
		all = append(all, link.From+"→"+link.To)
	}
	return all
}

func setsLinks(t *testing.T, l *lab) {
	tests := []struct {
		reason string
		change network.Change
		want   []network.Link
	}{
		{
			reason: "all settings of one direction",
			change: network.Change{
				Ends:  network.Ends{From: []string{"c0"}, To: []string{"c1"}},
				Delay: new("20ms"), Jitter: new("2ms"), Loss: new(0.01), Bandwidth: new("100Mbit"),
			},
			want: []network.Link{{From: "c0", To: "c1", Delay: "20ms", Jitter: "2ms", Loss: 0.01, Bandwidth: "100Mbit"}},
		},
		{
			reason: "what is absent stays; both directions",
			change: network.Change{Ends: network.Ends{From: []string{"c1"}, To: []string{"c0"}, Both: true}, Loss: new(0.5)},
			want: []network.Link{
				{From: "c0", To: "c1", Delay: "20ms", Jitter: "2ms", Loss: 0.5, Bandwidth: "100Mbit"},
				{From: "c1", To: "c0", Delay: "0s", Jitter: "0s", Loss: 0.5, Bandwidth: "0"},
			},
		},
		{
			reason: "to all others; back to nothing",
			change: network.Change{Ends: network.Ends{From: []string{"c0"}}, Delay: new("0"), Jitter: new("0"), Loss: new(0.0), Bandwidth: new("0")},
			want: []network.Link{
				{From: "c0", To: "c1", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
				{From: "c0", To: "c2", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
			},
		},
		{
			reason: "others are those that are not named: no link within the set",
			change: network.Change{Ends: network.Ends{From: []string{"c0", "c1"}}},
			want: []network.Link{
				{From: "c0", To: "c2", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
				{From: "c1", To: "c2", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
			},
		},
		{
			reason: "a link that is named twice is one link; none leads from a cluster to itself",
			change: network.Change{Ends: network.Ends{From: []string{"c0", "c2"}, To: []string{"c0", "c2"}, Both: true}},
			want: []network.Link{
				{From: "c0", To: "c2", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
				{From: "c2", To: "c0", Delay: "0s", Jitter: "0s", Bandwidth: "0"},
			},
		},
	}
	for _, test := range tests {
		got, err := l.SetLinks(t.Context(), test.change)
		if diff := cmp.Diff(test.want, got, ignoreDrops); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.reason, err, diff)
		}
	}
}

// ignoreDrops: an empty map is like none.
var ignoreDrops = cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Drops" }, cmp.Ignore())

func refusesRequests(t *testing.T, l *lab) {
	tests := []struct {
		reason, method, path, body string
		code                       int
		err                        string
	}{
		{"the message says what there is", "POST", "/cut", `{"from":["m9"]}`, 404, `unknown cluster \"m9\": there are c0, c1, c2`},
		{"both ends are looked at", "POST", "/heal", `{"from":["c0"],"to":["m9"]}`, 404, `unknown cluster \"m9\"`},
		{"a cut of everything is not what a mistake should do", "POST", "/cut", `{}`, 400, `no cluster in \"from\"`},
		{"all have no others", "POST", "/cut", `{"from":["c0","c1","c2"]}`, 400, "no links from c0, c1, c2"},
		{"a misspelt field would be without effect", "PUT", "/links", `{"from":["c0"],"dealy":"1ms"}`, 400, "dealy"},
		{"a number could be anything", "PUT", "/links", `{"from":["c0"],"delay":"20"}`, 400, `delay: \"20\" is no duration`},
		{"it says which one", "PUT", "/links", `{"from":["c0"],"jitter":"-1ms"}`, 400, "jitter: "},
		{"a bad bandwidth", "PUT", "/links", `{"from":["c0"],"bandwidth":"fast"}`, 400, "100Mbit"},
		{"percent are the command's business", "PUT", "/links", `{"from":["c0"],"loss":5}`, 400, "it must be 0 to 1"},
		{"a combination that cannot be", "PUT", "/links", `{"from":["c0"],"jitter":"5ms"}`, 400, "link from c0 to c1: jitter 5ms"},
		{"no JSON", "PUT", "/links", `{`, 400, "reading the request"},
		{"too much", "PUT", "/links", `{"from":["` + strings.Repeat("x", 2<<20) + `"]}`, 400, "too large"},
		{"links are put", "POST", "/links", `{}`, 405, ""},
		{"there is no such thing", "GET", "/x", ``, 404, ""},
	}
	for _, test := range tests {
		code, body := l.request(t, test.method, test.path, test.body)
		if code != test.code || !strings.Contains(body, test.err) {
			t.Errorf("%s %s: %d %s, want %d with %q: %s", test.method, test.path, code, body, test.code, test.err, test.reason)
		}
	}
	if link := l.link(t, "c0", "c1"); link.Cut || link.Delay != "0s" || link.Jitter != "0s" || link.Loss != 0 {
		t.Errorf("a refused request has changed the link: %+v", link)
	}
	_, err := l.Cut(t.Context(), network.Ends{From: []string{"m9"}})
	if want := `unknown cluster "m9": there are c0, c1, c2`; err == nil || err.Error() != want {
		t.Errorf("the client says %v, want %s", err, want)
	}
}

// request sends a request as it is.
func (l *lab) request(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return network.Dial(ctx, l.spec.Socket)
		},
	}}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://network"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data := make([]byte, 1<<10)
	n, _ := response.Body.Read(data)
	return response.StatusCode, string(data[:n])
}

func TestClientWithoutNetwork(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
	tests := map[string]string{
		filepath.Join(dir, "no", "such", "folder"): "the lab was taken down",
		filepath.Join(dir, "none"):                 "the process never came as far as listening",
		stale:                                      "the process was killed and left its socket",
	}
	for socket, reason := range tests {
		_, err := network.NewClient(socket).State(t.Context())
		if !errors.Is(err, network.ErrGone) || !strings.Contains(err.Error(), "makes it again") {
			t.Errorf("error %v: %s", err, reason)
		}
	}
}

func TestListenReplaces(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	for _, file := range []string{socket, socket + ".new"} {
		if err := os.WriteFile(file, []byte("left by a killed process"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := network.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := network.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if entries, err := os.ReadDir(filepath.Dir(socket)); len(entries) != 1 || err != nil {
		t.Errorf("beside the socket there are %v, %v", entries, err)
	}
}
