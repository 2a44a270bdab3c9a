package dns

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/zone"
)

// TapPath is where a server streams samples of queries.
const TapPath = "/dns/tap"

// held is how many events wait for a client that is slow, before they are lost.
const held = 1024

// Query is one query that was answered, as the tap tells it: one JSON object in a line.
type Query struct {
	Time      time.Time      `json:"time"`
	Peer      netip.AddrPort `json:"peer"`
	Local     netip.AddrPort `json:"local"`
	Transport string         `json:"transport"`
	Asker     string         `json:"asker"` // whose view answered: CLUSTER[/REGION][/ZONE], REGION, or outside
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Rcode     string         `json:"rcode"` // empty: no response
	Bytes     int            `json:"bytes"` // of the response
}

func newQuery(e dns.Event) Query {
	q := Query{
		Time: e.Time, Peer: e.Peer, Local: e.Local, Transport: e.Transport.String(), Asker: e.Asker, Name: e.Name,
		Type: miekg.Type(e.Type).String(), Bytes: e.Size,
	}
	if e.Rcode >= 0 {
		q.Rcode = cmp.Or(miekg.RcodeToString[e.Rcode], strconv.Itoa(e.Rcode))
	}
	return q
}

// tap streams samples of queries over HTTP, to those on this machine only: they tell who talks to whom.
type tap struct {
	*dns.Tap

	ended <-chan struct{}
}

// ServeHTTP implements http.Handler.
func (t tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		http.Error(w, "queries are shown on this machine only: come from 127.0.0.1 or ::1, for example with kubectl port-forward", http.StatusForbidden)
		return
	}
	every, below, err := parseTap(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	events, stop, ok := t.Subscribe(every, held)
	if !ok {
		http.Error(w, "too many look at queries already", http.StatusServiceUnavailable)
		return
	}
	defer stop()
	t.stream(r.Context(), w, events, below)
}

func (t tap) stream(ctx context.Context, w http.ResponseWriter, events <-chan dns.Event, below string) {
	w.Header().Set("Content-Type", "application/jsonl")
	flush := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	for {
		if len(events) == 0 && flush.Flush() != nil {
			return
		}
		select {
		case event := <-events:
			if below != "" && !miekg.IsSubDomain(below, event.Name) {
				continue
			}
			if encoder.Encode(newQuery(event)) != nil {
				return // the client has gone
			}
		case <-ctx.Done():
			return
		case <-t.ended: // or the web server would wait for us
			return
		}
	}
}

// parseTap reads what is asked for: one in how many, and below which name.
func parseTap(values url.Values) (every int, below string, err error) {
	every, err = strconv.Atoi(cmp.Or(values.Get("every"), "1"))
	if err != nil || every < 1 {
		return 0, "", fmt.Errorf("every=%q: want a number from 1", values.Get("every"))
	}
	if below = values.Get("below"); below == "" {
		return every, "", nil
	}
	wire, err := zone.Wire(below)
	if err != nil {
		return 0, "", fmt.Errorf("below=%q: %w", below, err)
	}
	return every, zone.Presentation(wire), nil
}

// Watch asks the server whose metrics are at an address for samples of queries: one in every, and if below is not empty
// only names at or below it. It returns nil when ctx ends.
func Watch(ctx context.Context, addr string, every int, below string, take func(Query) error) error {
	target := url.URL{Scheme: "http", Host: addr, Path: TapPath, RawQuery: url.Values{"every": {strconv.Itoa(every)}, "below": {below}}.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("asking %s for queries: %w", addr, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil // that is how one stops looking
		}
		return fmt.Errorf("asking %s for queries: %w. Is this the --metrics-addr of a DNS server (of a hub: with --dns-addr)?", addr, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return fmt.Errorf("asking %s for queries: %s: %s", addr, response.Status, strings.TrimSpace(string(text)))
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF) && len(line) == 0:
			return fmt.Errorf("the server at %s has ended", addr)
		case err != nil:
			return fmt.Errorf("reading queries from %s: %w", addr, err)
		}
		var q Query
		if err := json.Unmarshal(line, &q); err != nil {
			return fmt.Errorf("reading queries from %s: %w", addr, err)
		}
		if err := take(q); err != nil {
			return err
		}
	}
}
