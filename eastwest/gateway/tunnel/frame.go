package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A stream begins with a frame from who opens it, and the answer to it:
//
//	open    version(1) length(2) │ flags(1) port(2) namespace(1+n) name(1+n) hostname(1+n) data
//	answer  version(1) code(1) length(2) │ message
//
// length counts what comes after it; data is what is left. Numbers are big-endian. An answer looks like this in all versions,
// so that who does not understand an open frame can say so.

// version is the only one there is.
const version = 1

// What an open frame can ask for.
const (
	flagDatagrams   = 1 << iota
	flagFirstFlight // there is data; only then
	flagProbe       // there is no service; only then
	flagsAll        = 1<<iota - 1
)

const (
	openHeader   = 3
	openMinimum  = 1 + 2 + 3 // octets of the rest
	openMaximum  = openMinimum + 3*maxLabel + MaxData
	answerHeader = 4
)

// versionError is of an open frame in a version that is not understood.
type versionError uint8

func (v versionError) Error() string {
	return fmt.Sprintf("version %d of tunnels is not understood here, only version %d: upgrade the older gateway", uint8(v), version)
}

// appendOpen encodes a request, or says why it cannot be made.
func appendOpen(to []byte, r *Request) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var flags byte
	if r.Datagrams {
		flags |= flagDatagrams
	}
	if len(r.Data) > 0 {
		flags |= flagFirstFlight
	}
	if r.Probe() {
		flags |= flagProbe
	}
	length := openMinimum + len(r.Service.Namespace) + len(r.Service.Name) + len(r.Hostname) + len(r.Data)
	to = append(to, version)
	to = binary.BigEndian.AppendUint16(to, uint16(length)) //nolint:gosec // check has limited all parts: openMaximum
	to = append(to, flags)
	to = binary.BigEndian.AppendUint16(to, r.Port)
	for _, name := range []string{r.Service.Namespace, r.Service.Name, r.Hostname} {
		to = append(to, byte(len(name))) //nolint:gosec // at most maxLabel
		to = append(to, name...)
	}
	return append(to, r.Data...), nil
}

// readOpen reads an open frame and nothing after it.
func readOpen(from io.Reader) (Request, error) {
	var header [openHeader]byte
	if _, err := io.ReadFull(from, header[:1]); err != nil {
		return Request{}, fmt.Errorf("reading an open frame: %w", err)
	}
	if header[0] != version {
		return Request{}, versionError(header[0])
	}
	if _, err := io.ReadFull(from, header[1:]); err != nil {
		return Request{}, fmt.Errorf("reading an open frame: %w", err)
	}
	length := int(binary.BigEndian.Uint16(header[1:]))
	if length < openMinimum || length > openMaximum {
		return Request{}, fmt.Errorf("an open frame of %d octets; there are %d to %d", length, openMinimum, openMaximum)
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(from, rest); err != nil {
		return Request{}, fmt.Errorf("reading an open frame: %w", err)
	}
	return parseOpen(rest)
}

// parseOpen reads what comes after the length.
func parseOpen(rest []byte) (Request, error) {
	flags, r := rest[0], Request{Port: binary.BigEndian.Uint16(rest[1:3])}
	rest = rest[3:]
	for _, name := range []*string{&r.Service.Namespace, &r.Service.Name, &r.Hostname} {
		if len(rest) == 0 || int(rest[0]) > len(rest)-1 {
			return Request{}, errors.New("an open frame ends within a name")
		}
		n := int(rest[0])
		*name, rest = string(rest[1:1+n]), rest[1+n:]
	}
	if len(rest) > 0 {
		r.Data = rest
	}
	r.Datagrams = flags&flagDatagrams != 0
	if flags&^byte(flagsAll) != 0 || flags&flagFirstFlight != 0 != (len(r.Data) > 0) || flags&flagProbe != 0 != r.Probe() {
		return Request{}, fmt.Errorf("an open frame with flags %#x, which do not fit what it says", flags)
	}
	if err := r.check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// check says what is wrong with a request.
func (r *Request) check() error {
	switch {
	case len(r.Data) > MaxData:
		return fmt.Errorf("the first flight has %d octets; at most %d can be sent", len(r.Data), MaxData)
	case r.Probe() && (r.Port != 0 || r.Hostname != ""):
		return errors.New("a probe has a port or a hostname, but no service")
	case r.Probe():
		return nil
	case !label(r.Service.Namespace) || !label(r.Service.Name):
		return fmt.Errorf("%q is no service: its namespace and its name have to be DNS labels", r.Service)
	case r.Hostname != "" && !label(r.Hostname):
		return fmt.Errorf("%q is no hostname of a pod: it has to be a DNS label", r.Hostname)
	case r.Port == 0:
		return fmt.Errorf("no port of service %s is named", r.Service)
	}
	return nil
}

// label tells whether s is a DNS label of RFC 1123, in lower case as Kubernetes has them.
func label(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// appendAnswer encodes an answer. A message is made fit: cut off, and without what is not text.
func appendAnswer(to []byte, code Code, message string) []byte {
	message = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return '?'
		}
		return c
	}, message)
	if len(message) > MaxMessage {
		message = strings.ToValidUTF8(message[:MaxMessage], "")
	}
	to = append(to, version, byte(code))
	to = binary.BigEndian.AppendUint16(to, uint16(len(message))) //nolint:gosec // at most MaxMessage
	return append(to, message...)
}

// readAnswer reads an answer and nothing after it. It returns *Refused when it is a no.
func readAnswer(from io.Reader) error {
	var header [answerHeader]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	code, length := Code(header[1]), binary.BigEndian.Uint16(header[2:])
	switch {
	case header[0] != version:
		return fmt.Errorf("an answer in version %d; only version %d is understood", header[0], version)
	case length > MaxMessage:
		return fmt.Errorf("an answer with a message of %d octets; there are at most %d", length, MaxMessage)
	case code == accepted && length > 0:
		return errors.New("an answer that accepts and has a message")
	case code == accepted:
		return nil
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(from, message); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if text := string(message); utf8.ValidString(text) && strings.IndexFunc(text, unprintable) < 0 {
		return &Refused{Code: code, Message: text}
	}
	return errors.New("an answer whose message is no text")
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }
