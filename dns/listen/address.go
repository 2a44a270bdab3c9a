package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
)

// place is what one address of Options stands for: sockets that have the port in common.
type place struct {
	written string           // as in Options
	addrs   []netip.AddrPort // one, or one per family
	anyOf   bool             // addrs may be those that the host has
	over    []Transport
}

// places groups addresses, those for UDP and TCP together.
func (o Options) places() ([]place, error) {
	var found []place
	for _, list := range []struct {
		over  Transport
		addrs []string
	}{{UDP, o.UDP}, {TCP, o.TCP}, {TLS, o.TLS}, {HTTPS, o.HTTPS}} {
		for _, written := range list.addrs {
			i := slices.IndexFunc(found, func(p place) bool {
				return list.over == TCP && p.written == written && !slices.Contains(p.over, TCP)
			})
			if i >= 0 {
				found[i].over = append(found[i].over, TCP)
				continue
			}
			p, err := parse(written)
			if err != nil {
				return nil, err
			}
			p.over = []Transport{list.over}
			found = append(found, p)
		}
	}
	return found, nil
}

func parse(written string) (place, error) {
	host, digits, err := net.SplitHostPort(written)
	if err != nil {
		return place{}, fmt.Errorf("listening on %q: want IP:port, [IPv6]:port or :port: %w", written, err)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return place{}, fmt.Errorf("listening on %q: %q is no port from 0 to 65535", written, digits)
	}
	if host == "" {
		return place{written: written, anyOf: true, addrs: []netip.AddrPort{
			netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)),
			netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)),
		}}, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return place{}, fmt.Errorf("listening on %q: %q is no IP address; leave it away to listen on all", written, host)
	}
	return place{written: written, addrs: []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(port))}}, nil
}

// attempts is how many free ports are tried until one is free for everything that needs it.
const attempts = 32

// bind opens the sockets of a place. When port 0 finds one that is not free for all of them, it tries others.
func (s *Server) bind(p place) (err error) {
	for range attempts {
		var opened sockets
		if opened, err = s.open(p); err == nil {
			s.engines = append(s.engines, opened.engines...)
			s.listeners = append(s.listeners, opened.listeners...)
			return nil
		}
		opened.close()
		if p.addrs[0].Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// sockets are those of a place.
type sockets struct {
	engines   []*engine
	listeners []*listener
}

func (s sockets) close() {
	for _, e := range s.engines {
		e.close()
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

func (s *Server) open(p place) (opened sockets, err error) {
	port := p.addrs[0].Port()
	for _, addr := range p.addrs {
		addr = netip.AddrPortFrom(addr.Addr(), port)
		for _, over := range p.over {
			var got netip.AddrPort
			if over == UDP {
				got, err = s.openUDP(addr, &opened)
			} else {
				got, err = s.openStream(netip.AddrPortFrom(addr.Addr(), port), over, &opened)
			}
			if err != nil && p.anyOf && missing(err) {
				continue
			}
			if err != nil {
				return opened, explain(err, over, addr)
			}
			port = got.Port()
			addr = got
		}
	}
	if len(opened.engines)+len(opened.listeners) == 0 {
		return opened, fmt.Errorf("listening on %q: this host has neither IPv4 nor IPv6: %w", p.written, err)
	}
	return opened, nil
}

// missing reports whether the host does not have a family of addresses.
func missing(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// explain adds to an error of a socket what to do about it.
func explain(err error, over Transport, addr netip.AddrPort) error {
	protocol, flag := "tcp", "t"
	if over == UDP {
		protocol, flag = "udp", "u"
	}
	next := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		next = fmt.Sprintf("; another program has this port: `ss -l%snp 'sport = :%d'` shows which; stop it, or listen on another address or port", flag, addr.Port())
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		next = "; ports below 1024 need root or CAP_NET_BIND_SERVICE: grant that, or listen on a higher port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		next = "; no interface of this host has this address: `ip address` shows those that it has"
	}
	return fmt.Errorf("listening on %s %s (%s): %w%s", protocol, addr, over, err, next)
}

func (s *Server) openStream(addr netip.AddrPort, over Transport, into *sockets) (netip.AddrPort, error) {
	l, err := s.listenTCP(addr)
	if err != nil {
		if call, ok := errors.AsType[*net.OpError](err); ok {
			err = call.Err // explain names the address
		}
		return addr, err
	}
	got := plain(l.Addr())
	into.listeners = append(into.listeners, &listener{TCPListener: l, addr: got, over: over})
	return got, nil
}

// plain returns an address of package net without a zone, and IPv4 as such.
func plain(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}
