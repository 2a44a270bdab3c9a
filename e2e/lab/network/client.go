package network

import (
	"context"
	"errors"
)

// ErrGone means that the network process of a lab does not run.
var ErrGone = errors.New("the network of the lab does not run: take the lab down and up again")

// State is what a network process tells of itself.
type State struct {
	PID        int               `json:"pid"`
	Flat       bool              `json:"flat"`
	Namespaces map[string]string `json:"namespaces"` // file to enter by, by name of cluster or node: "/proc/PID/fd/N"
	Links      []Link            `json:"links"`      // sorted by From and To
	Unroutable map[string]uint64 `json:"unroutable"` // packets that a cluster sent to where no way leads
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

// Client talks to the network process of a lab. Its errors wrap ErrGone if there is none.
type Client struct{ socket string }

// NewClient returns a client for a control socket.
func NewClient(socket string) *Client { return &Client{socket: socket} }

// State tells how to enter the namespaces and what the links are like.
func (c *Client) State(_ context.Context) (State, error) { return State{}, ErrGone }

// SetLinks changes links and returns them.
func (c *Client) SetLinks(_ context.Context, _ Change) ([]Link, error) { return nil, ErrGone }

// Cut stops everything on links, also what is under way, and returns them.
func (c *Client) Cut(_ context.Context, _ Ends) ([]Link, error) { return nil, ErrGone }

// Heal undoes Cut; the links are then as they were.
func (c *Client) Heal(_ context.Context, _ Ends) ([]Link, error) { return nil, ErrGone }
