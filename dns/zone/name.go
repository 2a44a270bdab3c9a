package zone

import (
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// The limits of RFC 1035, section 2.3.4, in octets.
const (
	maxLabel = 63
	maxName  = 255
)

var errName = errors.New("is not a domain name")

// Wire returns a name in presentation form as Find takes it: in wire form, lower case, with the root label.
func Wire(name string) ([]byte, error) {
	wire := make([]byte, maxName)
	end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
	if err != nil || name == "" {
		return nil, errName
	}
	return lower(wire[:end:end]), nil
}

// Presentation returns a name in wire form as people write it, with the final dot. What is malformed is "?".
func Presentation(wire []byte) string {
	name, end, err := dns.UnpackDomainName(wire, 0)
	if err != nil || end != len(wire) {
		return "?"
	}
	return name
}

// lower makes the letters of ASCII small, in place. The octets of lengths are no letters, since they are at most 63.
func lower(wire []byte) []byte {
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
	return wire
}

// below returns a name below a zone, both in presentation form; the zone may be the root.
func below(name, zone string) string { return name + "." + strings.TrimPrefix(zone, ".") }

// parent returns the name without its first label, and false for the root and what is malformed.
func parent(name string) (string, bool) {
	if len(name) < 2 || int(name[0])+1 >= len(name) || name[0] > maxLabel {
		return "", false
	}
	return name[int(name[0])+1:], true
}

// within tells whether a name is the zone or below it.
func within(name, zone string) bool {
	for {
		if len(name) <= len(zone) {
			return name == zone
		}
		up, ok := parent(name)
		if !ok {
			return false
		}
		name = up
	}
}

// labels returns the labels of a name, the root's not among them.
func labels(name string) []string {
	var all []string
	for {
		up, ok := parent(name)
		if !ok {
			return all
		}
		all, name = append(all, name[1:1+int(name[0])]), up
	}
}

// child returns the name with a label before it, and false when that does not fit.
func child(label, name string) (string, bool) {
	if label == "" || len(label) > maxLabel || 1+len(label)+len(name) > maxName {
		return "", false
	}
	var b strings.Builder
	b.Grow(1 + len(label) + len(name))
	b.WriteByte(byte(len(label))) //nolint:gosec // at most 63
	b.WriteString(label)
	b.WriteString(name)
	return b.String(), true
}

// hostLabel tells whether s may be a label of a host name (RFC 1123, section 2.1), in lower case.
func hostLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' {
			return false
		}
	}
	return true
}

// compareNames is the canonical order of names (RFC 4034, section 6.1): label by label, from the root.
func compareNames(a, b string) int {
	x, y := labels(a), labels(b)
	for i := 1; i <= len(x) && i <= len(y); i++ {
		if order := strings.Compare(x[len(x)-i], y[len(y)-i]); order != 0 {
			return order
		}
	}
	return len(x) - len(y)
}
