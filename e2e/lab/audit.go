package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// auditPolicy has every write request of a cluster written to its audit log, once, when it is complete: who, what and
// how it ended, without the bodies.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// Mark is a position in the audit log of a cluster: everything before it has been seen. The zero Mark is the start.
type Mark int64

// AuditEvent is one write request that a cluster's API server has answered.
type AuditEvent struct {
	Time        time.Time // when the request came in
	Verb        string    // create, update, patch, delete or deletecollection
	User        string
	UserAgent   string
	Group       string // API group of the resource, "" for core
	Resource    string // plural, like "configmaps"
	Subresource string // like "status", or ""
	Namespace   string
	Name        string // "" for most creations, whose name is in the body
	DryRun      bool
	Code        int // HTTP status of the answer; 0 if the server panicked
}

// Succeeded tells whether the request changed what is stored, as far as its answer tells: a patch that changes
// nothing succeeds too.
func (e AuditEvent) Succeeded() bool { return e.Code/100 == 2 && !e.DryRun }

// AuditMark returns the present end of the cluster's audit log.
func (c Cluster) AuditMark() (Mark, error) {
	f, err := os.Open(c.auditLog())
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the audit log of %s: %w", c.Name, err)
	}
	defer func() { _ = f.Close() }()
	mark, err := lastLine(f)
	if err != nil {
		return 0, fmt.Errorf("reading the audit log of %s: %w", c.Name, err)
	}
	return mark, nil
}

// lastLine returns where the last complete line of a log ends. What follows is being written: a file grows page by page,
// so its size may fall within a line.
func lastLine(f io.ReadSeeker) (Mark, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	chunk := make([]byte, 64<<10)
	for end > 0 {
		from := max(end-int64(len(chunk)), 0)
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return 0, err
		}
		part := chunk[:end-from]
		if _, err := io.ReadFull(f, part); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return Mark(from + int64(i) + 1), nil
		}
		end = from
	}
	return 0, nil
}

// Audit returns the write requests to the cluster since a mark in the order of their completion, and the mark to
// go on from. An API server writes an event when it has answered; so the event of a request that has just returned
// to its caller may still be missing.
func (c Cluster) Audit(since Mark) ([]AuditEvent, Mark, error) {
	f, err := os.Open(c.auditLog())
	if missing(err) {
		return nil, since, nil
	}
	if err != nil {
		return nil, since, fmt.Errorf("reading the audit log of %s: %w", c.Name, err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(int64(since), io.SeekStart); err != nil {
		return nil, since, fmt.Errorf("reading the audit log of %s: %w", c.Name, err)
	}
	events, n, err := ParseAudit(f)
	if err != nil {
		err = fmt.Errorf("reading the audit log of %s: %w", c.Name, err)
	}
	return events, since + Mark(n), err
}

// ParseAudit reads events of an audit log (JSON, one event per line) and returns how many bytes they took. A last
// line without its newline is still being written; it is left for the next time.
func ParseAudit(r io.Reader) ([]AuditEvent, int64, error) {
	var (
		events []AuditEvent
		read   int64
		lines  = bufio.NewReader(r)
	)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, read, nil
		}
		if err != nil {
			return events, read, err
		}
		event, wanted, err := parseAuditEvent(whole(line))
		if err != nil {
			return events, read, fmt.Errorf("event at byte %d: %w", read, err)
		}
		if wanted {
			events = append(events, event)
		}
		read += int64(len(line))
	}
}

// whole cuts off the half event at the start of a line that a killed API server has left there.
func whole(line []byte) []byte {
	return line[max(0, bytes.LastIndex(line, []byte(`{"kind":"Event",`))):]
}

// parseAuditEvent reads one line; events that announce an answer that is still going on are not wanted.
func parseAuditEvent(line []byte) (AuditEvent, bool, error) {
	var raw struct {
		Stage      string    `json:"stage"`
		Verb       string    `json:"verb"`
		RequestURI string    `json:"requestURI"`
		UserAgent  string    `json:"userAgent"`
		Received   time.Time `json:"requestReceivedTimestamp"`
		User       struct {
			Username string `json:"username"`
		} `json:"user"`
		Object struct {
			Group       string `json:"apiGroup"`
			Resource    string `json:"resource"`
			Subresource string `json:"subresource"`
			Namespace   string `json:"namespace"`
			Name        string `json:"name"`
		} `json:"objectRef"`
		Response struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return AuditEvent{}, false, err
	}
	return AuditEvent{
		Time:        raw.Received,
		Verb:        raw.Verb,
		User:        raw.User.Username,
		UserAgent:   raw.UserAgent,
		Group:       raw.Object.Group,
		Resource:    raw.Object.Resource,
		Subresource: raw.Object.Subresource,
		Namespace:   raw.Object.Namespace,
		Name:        raw.Object.Name,
		DryRun:      strings.Contains(raw.RequestURI, "dryRun="),
		Code:        raw.Response.Code,
	}, raw.Stage == "ResponseComplete" || raw.Stage == "Panic", nil
}
