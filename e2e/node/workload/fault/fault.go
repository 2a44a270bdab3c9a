// Package fault decides how the test server misbehaves. It is pure: what was asked for comes in as text, chance as a
// number, and what to do goes out.
//
// There are two sources. A Control is set at run time and holds for every request until it is changed. A Wish is part
// of one request and holds for that one. Where both have something to say:
//
//	delay          the longer of the two
//	drop           before hang, hang before a status, whoever asked
//	status         the Control's, if it strikes; a server that was told to fail does not obey clients
package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxDelay bounds how long a request may be told to wait.
const MaxDelay = 10 * time.Minute

// MaxSize bounds the size of an answer in bytes. Protocols with messages have smaller bounds of their own.
const MaxSize = 1 << 30

// Control is what a server was told to do with all requests of some protocols.
type Control struct {
	Fail      int      `json:"fail"`      // HTTP status to answer with, 400 to 599; 0: none
	FailRate  float64  `json:"failRate"`  // share of the requests that fail, hang or drop strike, 0 to 1
	Delay     Duration `json:"delay"`     // before the answer; not subject to FailRate
	Hang      bool     `json:"hang"`      // never answer, and keep the connection open
	Drop      bool     `json:"drop"`      // close the connection without an answer
	Ready     bool     `json:"ready"`     // what /ready and gRPC health say
	Protocols []string `json:"protocols"` // those concerned, readiness excepted; empty: all
}

// Normal is the Control of a server that behaves.
func Normal() Control { return Control{FailRate: 1, Ready: true, Protocols: []string{}} }

// change is a Control of which any field may be absent.
type change struct {
	Fail      *int      `json:"fail"`
	FailRate  *float64  `json:"failRate"`
	Delay     *Duration `json:"delay"`
	Hang      *bool     `json:"hang"`
	Drop      *bool     `json:"drop"`
	Ready     *bool     `json:"ready"`
	Protocols *[]string `json:"protocols"`
}

// ParseControl applies a JSON document to base: fields that are absent or null stay as they are there. The known
// protocols are given. The error says which field is wrong and what it may be.
func ParseControl(document []byte, base Control, known []string) (Control, error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	var c change
	if err := decoder.Decode(&c); err != nil {
		return Control{}, fmt.Errorf(`want a JSON object like {"fail": 503, "failRate": 0.2, "delay": "200ms", "hang": true, "drop": true, "ready": false, "protocols": ["http"]}: %w`, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Control{}, errors.New("there is something after the JSON object: send one object")
	}
	next := c.over(base)
	if err := next.check(known); err != nil {
		return Control{}, err
	}
	if c.FailRate != nil && next.FailRate > 0 && next.FailRate < 1 && next.Fail == 0 && !next.Hang && !next.Drop {
		return Control{}, fmt.Errorf("failRate %v has nothing to strike with: set fail, hang or drop as well", next.FailRate)
	}
	return next, nil
}

func (c change) over(base Control) Control {
	next := base
	assign(&next.Fail, c.Fail)
	assign(&next.FailRate, c.FailRate)
	assign(&next.Delay, c.Delay)
	assign(&next.Hang, c.Hang)
	assign(&next.Drop, c.Drop)
	assign(&next.Ready, c.Ready)
	assign(&next.Protocols, c.Protocols)
	return next
}

func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (c Control) check(known []string) error {
	switch {
	case c.Fail != 0 && (c.Fail < 400 || c.Fail > 599):
		return fmt.Errorf("fail is %d: want an HTTP status from 400 to 599, or 0 for none", c.Fail)
	case !(c.FailRate >= 0 && c.FailRate <= 1): // not-a-number is refused as well
		return fmt.Errorf("failRate is %v: want a share from 0 to 1", c.FailRate)
	case c.Delay < 0 || time.Duration(c.Delay) > MaxDelay:
		return fmt.Errorf("delay is %s: want 0s to %s", time.Duration(c.Delay), MaxDelay)
	}
	for _, p := range c.Protocols {
		if !slices.Contains(known, p) {
			return fmt.Errorf("protocols has %q: want some of %s", p, strings.Join(known, ", "))
		}
	}
	return nil
}

// Duration is a time.Duration that is written like "1.5s" in JSON.
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it like 200ms or 1.5s", text)
	}
	*d = Duration(value)
	return nil
}

// Wish is what one request asks for.
type Wish struct {
	Status int           // HTTP status of the answer, 200 to 599; 0: the usual one
	Delay  time.Duration // before the answer
	Hang   bool          // no answer, connection left open
	Drop   bool          // no answer, connection closed
	Close  bool          // close the connection after the answer
	Plain  bool          // the short form of the answer
	Size   int64         // make the answer at least that many bytes long
}

// ParseQuery reads the parameters status, delay, hang, drop, close, plain and size, and ignores others, for they are
// echoed. A flag is set by its name alone, or by any value that strconv.ParseBool takes for true.
func ParseQuery(query url.Values) (Wish, error) {
	var w Wish
	var errs []error
	number := func(name string, low, high int64) int64 {
		text := query.Get(name)
		if text == "" {
			return 0
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < low || n > high {
			errs = append(errs, fmt.Errorf("%s=%s: want a number from %d to %d", name, text, low, high))
			return 0
		}
		return n
	}
	flag := func(name string) bool {
		text := query.Get(name)
		if text == "" {
			return query.Has(name)
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: want the name alone, or true or false", name, text))
		}
		return on
	}
	w.Status = int(number("status", 200, 599))
	w.Size = number("size", 0, MaxSize)
	w.Hang, w.Drop, w.Close, w.Plain = flag("hang"), flag("drop"), flag("close"), flag("plain")
	if text := query.Get("delay"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > MaxDelay {
			errs = append(errs, fmt.Errorf("delay=%s: want a duration from 0s to %s, like 200ms", text, MaxDelay))
		}
		w.Delay = d
	}
	if len(errs) > 0 {
		return Wish{}, errors.Join(errs...)
	}
	return w, nil
}

// Plan is what happens to a request: it waits for Delay, and then the first of Drop, Hang and Status that is set.
type Plan struct {
	Delay  time.Duration
	Drop   bool
	Hang   bool
	Status int // HTTP status of the answer; 0: the usual one
}

// Decide makes the plan for a request. Chance is a random number from 0 up to, and not including, 1.
func Decide(c Control, w Wish, protocol string, chance float64) Plan {
	p := Plan{Delay: w.Delay, Drop: w.Drop, Hang: w.Hang, Status: w.Status}
	if len(c.Protocols) > 0 && !slices.Contains(c.Protocols, protocol) {
		return p
	}
	p.Delay = max(p.Delay, time.Duration(c.Delay))
	if chance >= c.FailRate {
		return p
	}
	p.Drop = p.Drop || c.Drop
	p.Hang = p.Hang || c.Hang
	if c.Fail != 0 {
		p.Status = c.Fail
	}
	return p
}
