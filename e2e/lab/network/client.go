package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// ErrGone means that the network process of a lab does not run.
var ErrGone = errors.New("the network of the lab does not run: `hansa-lab up`, with the flags that made the lab, makes it again")

// State is what a network process tells of itself.
type State struct {
	PID        int                `json:"pid"`
	Flat       bool               `json:"flat"`
	Namespaces map[string]string  `json:"namespaces"` // file to enter by, by name of cluster or node: "/proc/PID/fd/N"
	Links      []Link             `json:"links"`      // sorted by From and To
	Refused    map[string]Refused `json:"refused"`    // by name of cluster
}

// Refused counts packets of a cluster that no link was asked to carry.
type Refused struct {
	Unroutable uint64 `json:"unroutable"` // there is no way to their destination, or none back to their source
	Missed     uint64 `json:"missed"`     // they came faster than they were read
}

// Link is one direction between two clusters.
type Link struct {
	From      string            `json:"from"`
	To        string            `json:"to"`
	Delay     string            `json:"delay"`     // one way: "20ms"
	Jitter    string            `json:"jitter"`    // the delay differs by up to this much, both ways
	Loss      float64           `json:"loss"`      // probability, 0 to 1
	Bandwidth string            `json:"bandwidth"` // "100Mbit"; "0" is unlimited
	Cut       bool              `json:"cut"`
	Packets   uint64            `json:"packets"` // delivered
	Bytes     uint64            `json:"bytes"`   // delivered, IP headers included
	Dropped   uint64            `json:"dropped"`
	Drops     map[string]uint64 `json:"drops,omitempty"` // by reason
}

// Ends names links by sets of clusters: those from each cluster in From to each in To. Empty To stands for all clusters
// that are not in From.
type Ends struct {
	From []string `json:"from"`
	To   []string `json:"to,omitempty"`
	Both bool     `json:"both,omitempty"` // also the other direction
}

// Change says what links shall be like; nil fields stay as they are.
type Change struct {
	Ends

	Delay     *string  `json:"delay,omitempty"`
	Jitter    *string  `json:"jitter,omitempty"`
	Loss      *float64 `json:"loss,omitempty"`
	Bandwidth *string  `json:"bandwidth,omitempty"`
}

// patience is how long an answer may take. The process computes none of them.
const patience = 10 * time.Second

// Client talks to the network process of a lab. Its errors wrap ErrGone if there is none.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for a control socket.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, socket) },
			DisableKeepAlives: true, // a Client need not be closed
		},
	}}
}

// State tells how to enter the namespaces and what the links are like.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	return s, c.do(ctx, http.MethodGet, "/state", nil, &s)
}

// SetLinks changes links and returns them.
func (c *Client) SetLinks(ctx context.Context, change Change) ([]Link, error) {
	var links []Link
	return links, c.do(ctx, http.MethodPut, "/links", change, &links)
}

// Cut stops everything on links, also what is under way, and returns them.
func (c *Client) Cut(ctx context.Context, ends Ends) ([]Link, error) {
	var links []Link
	return links, c.do(ctx, http.MethodPost, "/cut", ends, &links)
}

// Heal undoes Cut; the links are then as they were.
func (c *Client) Heal(ctx context.Context, ends Ends) ([]Link, error) {
	var links []Link
	return links, c.do(ctx, http.MethodPost, "/heal", ends, &links)
}

func (c *Client) do(ctx context.Context, method, path string, body, result any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a request to the network of the lab: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://network"+path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("making a request to the network of the lab: %w", err)
	}
	response, err := c.http.Do(request)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w (%w)", ErrGone, err)
	}
	if err != nil {
		return fmt.Errorf("asking the network of the lab: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return refusal(response)
	}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return fmt.Errorf("reading the answer of the network of the lab: %w", err)
	}
	return nil
}

// refusal is the error that a response tells of.
func refusal(response *http.Response) error {
	var told failure
	data, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
	if err != nil || json.Unmarshal(data, &told) != nil || told.Error == "" {
		return fmt.Errorf("the network of the lab answers %s: %s", response.Status, bytes.TrimSpace(data))
	}
	return errors.New(told.Error)
}
