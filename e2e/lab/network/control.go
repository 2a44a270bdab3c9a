package network

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/wan"
	"github.com/hansa-dev/hansa/e2e/lab/wan/link"
)

// maxRequest bounds the body of a request.
const maxRequest = 1 << 20

// errUnknown means that a request names a cluster that there is not.
var errUnknown = errors.New("unknown cluster")

// control answers the requests of Clients.
type control struct {
	flat   bool
	spaces map[string]namespace
	wan    *wan.WAN
	log    *slog.Logger
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { c.answer(w, c.state(), nil) })
	mux.HandleFunc("PUT /links", func(w http.ResponseWriter, r *http.Request) {
		var request Change
		c.change(w, r, &request, &request.Ends, request.parse)
	})
	for path, cut := range map[string]bool{"POST /cut": true, "POST /heal": false} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			var request Ends
			c.change(w, r, &request, &request, func() (change, error) {
				return func(s link.Settings) link.Settings { s.Cut = cut; return s }, nil
			})
		})
	}
	return mux
}

// change is what a request makes of a link's settings.
type change func(link.Settings) link.Settings

// change reads a request, changes the links between its ends and answers with what they are then.
func (c *control) change(w http.ResponseWriter, r *http.Request, request any, ends *Ends, parse func() (change, error)) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		c.answer(w, nil, fmt.Errorf("reading the request: %w", err))
		return
	}
	pairs, err := ends.pairs(c.wan.Names())
	if err != nil {
		c.answer(w, nil, err)
		return
	}
	do, err := parse()
	if err == nil {
		err = c.wan.Change(pairs, do)
	}
	if err != nil {
		c.answer(w, nil, err)
		return
	}
	c.log.Info("links changed", "by", r.Method+" "+r.URL.Path, "request", request)
	c.answer(w, c.links(pairs), nil)
}

// parse reads the request's values once, for all links.
func (r *Change) parse() (change, error) {
	var changes []change
	for _, duration := range []struct {
		name string
		text *string
		of   func(*link.Settings) *time.Duration
	}{
		{"delay", r.Delay, func(s *link.Settings) *time.Duration { return &s.Delay }},
		{"jitter", r.Jitter, func(s *link.Settings) *time.Duration { return &s.Jitter }},
	} {
		if duration.text == nil {
			continue
		}
		value, err := link.ParseDuration(*duration.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", duration.name, err)
		}
		changes = append(changes, func(s link.Settings) link.Settings { *duration.of(&s) = value; return s })
	}
	if r.Bandwidth != nil {
		value, err := link.ParseBandwidth(*r.Bandwidth)
		if err != nil {
			return nil, err
		}
		changes = append(changes, func(s link.Settings) link.Settings { s.Bandwidth = value; return s })
	}
	if r.Loss != nil {
		changes = append(changes, func(s link.Settings) link.Settings { s.Loss = *r.Loss; return s })
	}
	return func(s link.Settings) link.Settings {
		for _, do := range changes {
			s = do(s)
		}
		return s
	}, nil
}

// pairs lists the links between the ends, each once, sorted.
func (e Ends) pairs(clusters []string) ([]wan.Pair, error) {
	if len(e.From) == 0 {
		return nil, errors.New(`the request names no cluster in "from"`)
	}
	for _, name := range slices.Concat(e.From, e.To) {
		if !slices.Contains(clusters, name) {
			return nil, fmt.Errorf("%w %q: there are %s", errUnknown, name, strings.Join(clusters, ", "))
		}
	}
	to := e.To
	if len(to) == 0 {
		to = slices.DeleteFunc(slices.Clone(clusters), func(name string) bool { return slices.Contains(e.From, name) })
	}
	var pairs []wan.Pair
	for _, a := range e.From {
		for _, b := range to {
			if a == b {
				continue
			}
			pairs = append(pairs, wan.Pair{From: a, To: b})
			if e.Both {
				pairs = append(pairs, wan.Pair{From: b, To: a})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("there are no links from %s to other clusters", strings.Join(e.From, ", "))
	}
	slices.SortFunc(pairs, comparePairs)
	return slices.Compact(pairs), nil
}

func comparePairs(a, b wan.Pair) int {
	return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
}

func (c *control) state() State {
	s := State{
		PID: os.Getpid(), Flat: c.flat, Namespaces: map[string]string{}, Links: []Link{}, Refused: map[string]Refused{},
	}
	for name, counts := range c.wan.Refused() {
		s.Refused[name] = Refused(counts)
	}
	for name, space := range c.spaces {
		s.Namespaces[name] = space.path()
	}
	var all []wan.Pair
	for _, from := range c.wan.Names() {
		if pairs, err := (Ends{From: []string{from}}).pairs(c.wan.Names()); err == nil {
			all = append(all, pairs...)
		}
	}
	slices.SortFunc(all, comparePairs)
	s.Links = append(s.Links, c.links(all)...)
	return s
}

// links describes links that there are.
func (c *control) links(pairs []wan.Pair) []Link {
	links := make([]Link, 0, len(pairs))
	for _, pair := range pairs {
		status, err := c.wan.Status(pair)
		if err != nil {
			continue
		}
		l := Link{
			From: pair.From, To: pair.To, Delay: status.Delay.String(), Jitter: status.Jitter.String(), Loss: status.Loss,
			Bandwidth: status.Bandwidth.String(), Cut: status.Cut, Packets: status.Packets, Bytes: status.Bytes, Drops: status.Dropped,
		}
		for _, n := range status.Dropped {
			l.Dropped += n
		}
		links = append(links, l)
	}
	return links
}

// failure is the body of an answer that is none.
type failure struct {
	Error string `json:"error"`
}

func (c *control) answer(w http.ResponseWriter, value any, err error) {
	code := http.StatusOK
	switch {
	case errors.Is(err, errUnknown):
		code, value = http.StatusNotFound, failure{Error: err.Error()}
	case err != nil:
		code, value = http.StatusBadRequest, failure{Error: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // the client has gone: nobody is left to tell
}
