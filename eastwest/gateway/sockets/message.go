package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// What workers ask, and what the parent answers or orders. A message is its verb and what belongs to it, with a space
// between two parts:
//
//	listen NETWORK ADDR    ok ADDR, with the descriptor beside it, or: error TEXT
//	release ADDR           –
//	ready                  –
//	                       retire, stop: an order to drain and end
const (
	verbListen  = "listen"
	verbRelease = "release"
	verbReady   = "ready"
	verbOK      = "ok"
	verbError   = "error"
)

// maxMessage is the most octets that a message has.
const maxMessage = 512

var errMessage = errors.New("not a message between a gateway and its parent")

// key names a socket: by what was asked for, so that port 0 asked for again is the same socket.
type key struct {
	network string // "tcp" or "udp"
	addr    netip.AddrPort
}

func (k key) String() string { return k.network + " " + k.addr.String() }

// request is what a worker asks.
type request struct {
	verb string
	key  key // of listen; release has no network
}

// parseRequest reads what a worker asks.
func parseRequest(text string) (request, error) {
	parts := strings.Split(text, " ")
	switch {
	case len(text) > maxMessage:
		return request{}, fmt.Errorf("%w: it has %d octets", errMessage, len(text))
	case len(parts) == 1 && parts[0] == verbReady:
		return request{verb: verbReady}, nil
	case len(parts) == 2 && parts[0] == verbRelease:
		addr, err := parseAddr(parts[1])
		return request{verb: verbRelease, key: key{addr: addr}}, err
	case len(parts) == 3 && parts[0] == verbListen:
		if parts[1] != "tcp" && parts[1] != "udp" {
			return request{}, fmt.Errorf("%w: network %q", errMessage, parts[1])
		}
		addr, err := parseAddr(parts[2])
		return request{verb: verbListen, key: key{parts[1], addr}}, err
	}
	return request{}, fmt.Errorf("%w: %.40q", errMessage, text)
}

// String is what parseRequest reads.
func (r request) String() string {
	switch r.verb {
	case verbListen:
		return verbListen + " " + r.key.String()
	case verbRelease:
		return verbRelease + " " + r.key.addr.String()
	}
	return r.verb
}

// parseAddr reads an address without a zone in the one form that String has for it.
func parseAddr(text string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Addr().Zone() != "" || addr != plain(addr) || addr.String() != text {
		return netip.AddrPort{}, fmt.Errorf("%w: address %.60q", errMessage, text)
	}
	return addr, nil
}

// plain is an address in its one form: IPv4 is IPv4.
func plain(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// parseAnswer reads the parent's answer to listen: the address, or the error that the parent met.
func parseAnswer(text string) (netip.AddrPort, error) {
	verb, rest, _ := strings.Cut(text, " ")
	switch verb {
	case verbOK:
		return parseAddr(rest)
	case verbError:
		return netip.AddrPort{}, errors.New(rest)
	}
	return netip.AddrPort{}, fmt.Errorf("%w: %.40q", errMessage, text)
}

// answerError is the answer to a request that failed.
func answerError(err error) string {
	text := verbError + " " + err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
}
