package agent

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/podlog"
)

// parseLogOptions understands the query of a request for logs, as the API server makes it.
func parseLogOptions(query url.Values, now time.Time) (podlog.Options, error) {
	var o podlog.Options
	var err error
	if o.Tail, err = number(query, "tailLines", 0); err != nil {
		return o, err
	}
	if o.Limit, err = number(query, "limitBytes", 1); err != nil {
		return o, err
	}
	seconds, err := number(query, "sinceSeconds", 1)
	if err != nil {
		return o, err
	}
	if text := query.Get("sinceTime"); text != "" {
		if seconds != nil {
			return o, errors.New("sinceSeconds and sinceTime exclude each other")
		}
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return o, fmt.Errorf("sinceTime: %w", err)
		}
	}
	if seconds != nil {
		o.Since = now.Add(-time.Duration(*seconds) * time.Second)
	}
	o.Timestamps = query.Get("timestamps") == "true"
	switch stream := query.Get("stream"); stream {
	case "Stdout":
		o.Stream = "stdout"
	case "Stderr":
		o.Stream = "stderr"
	case "", "All":
	default:
		return o, fmt.Errorf("stream %q is none of All, Stdout and Stderr", stream)
	}
	return o, nil
}

// number is nil if the query does not say.
func number(query url.Values, name string, least int64) (*int64, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if n < least {
		return nil, fmt.Errorf("%s must be at least %d, not %d", name, least, n)
	}
	return &n, nil
}
