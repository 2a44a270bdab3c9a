package dns

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/dns"
	"github.com/hansa-dev/hansa/dns/forward"
	"github.com/hansa-dev/hansa/dns/sign"
	"github.com/hansa-dev/hansa/dns/transfer"
)

// port is that of DNS.
const port = 53

// responder returns what the responder is made of, as far as flags say it. It reads the files that they name.
func (f *Flags) responder(log logr.Logger) (dns.Options, error) {
	o := dns.Options{Version: f.ChaosVersion, Hostname: f.NSID, Log: log}
	if err := f.checkLimits(); err != nil {
		return o, err
	}
	o.RateLimit.PerSecond = f.RateLimit
	var err error
	if o.Zone, err = f.Options(); err != nil {
		return o, err
	}
	if o.Askers, err = f.askers(); err != nil {
		return o, err
	}
	if o.Forward, err = f.forwarder(); err != nil {
		return o, err
	}
	if o.ForwardFor, err = f.forwardFor(o.Askers); err != nil {
		return o, err
	}
	if o.Transfer, err = f.transfers(log); err != nil {
		return o, err
	}
	o.Sign, err = f.signer()
	return o, err
}

// checkLimits finds values that are too large, or make no sense.
func (f *Flags) checkLimits() error {
	if f.RateLimit < 0 || f.RateLimit > dns.MaxPerSecond {
		return fmt.Errorf("--%srate-limit %d: want 0 to %d", f.prefix, f.RateLimit, dns.MaxPerSecond)
	}
	for _, text := range []struct {
		flag, value string
		most        int
	}{{"nsid", f.NSID, dns.MaxHostname}, {"chaos-version", f.ChaosVersion, dns.MaxText}} {
		if len(text.value) > text.most {
			return fmt.Errorf("--%s%s has %d octets: want at most %d", f.prefix, text.flag, len(text.value), text.most)
		}
	}
	return nil
}

// forwardFor returns for whom upstreams are asked.
func (f *Flags) forwardFor(askers dns.Askers) ([]netip.Prefix, error) {
	if len(f.UpstreamFor) == 0 {
		return slices.AppendSeq(dns.Private(), maps.Keys(askers.Sources)), nil
	}
	if len(f.Upstreams) == 0 {
		return nil, fmt.Errorf("--%supstream-for goes with --%supstream: nobody is asked", f.prefix, f.prefix)
	}
	var networks []netip.Prefix
	for _, written := range f.UpstreamFor {
		network, err := parsePrefix(written)
		if err != nil {
			return nil, wrong(f.prefix+"upstream-for", written, err)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func (f *Flags) forwarder() (*forward.Forwarder, error) {
	if len(f.Upstreams) == 0 {
		return nil, nil //nolint:nilnil // not to forward is an ordinary choice
	}
	var upstreams []netip.AddrPort
	for _, written := range f.Upstreams {
		at, err := parseServer(written)
		if err != nil {
			return nil, wrong(f.prefix+"upstream", written, err)
		}
		if slices.ContainsFunc(f.Addrs, func(socket string) bool { return asksItself(socket, at) }) {
			return nil, wrong(f.prefix+"upstream", written, errors.New("this server would ask itself: name another resolver"))
		}
		upstreams = append(upstreams, at)
	}
	made, err := forward.New(forward.Options{Upstreams: upstreams})
	if err != nil {
		return nil, fmt.Errorf("--%supstream: %w", f.prefix, err)
	}
	return made, nil
}

// asksItself tells whether what is sent to an upstream comes back to a socket, as far as the addresses tell.
func asksItself(socket string, upstream netip.AddrPort) bool {
	if strings.HasSuffix(socket, ":0") || !covers(socket, upstream) {
		return false
	}
	bound, err := netip.ParseAddrPort(socket)
	everywhere := err != nil || bound.Addr().IsUnspecified()
	return !everywhere || upstream.Addr().IsLoopback() || upstream.Addr().IsUnspecified()
}

// parseServer reads IP[:PORT].
func parseServer(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), port), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return at, errors.New("want IP or IP:PORT")
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

func (f *Flags) transfers(log logr.Logger) (*transfer.Server, error) {
	switch {
	case len(f.Secondaries) == 0 && f.TSIGFile == "":
		return nil, nil //nolint:nilnil // to have no secondaries is an ordinary choice
	case f.TSIGFile == "":
		return nil, fmt.Errorf("--%ssecondary needs --%stsig-file with the keys", f.prefix, f.prefix)
	case len(f.Secondaries) == 0:
		return nil, fmt.Errorf("--%stsig-file needs --%ssecondary, which says whose keys they are", f.prefix, f.prefix)
	}
	text, err := os.ReadFile(f.TSIGFile)
	if err != nil {
		return nil, fmt.Errorf("--%stsig-file: %w", f.prefix, err)
	}
	o := transfer.Options{Log: log}
	if o.Keys, err = transfer.ParseKeys(string(text)); err != nil {
		return nil, wrong(f.prefix+"tsig-file", f.TSIGFile, err)
	}
	for _, written := range f.Secondaries {
		key, at, told := strings.Cut(written, "=")
		secondary := transfer.Secondary{Key: key}
		if told {
			if secondary.Addr, err = parseServer(at); err != nil {
				return nil, wrong(f.prefix+"secondary", written, errors.New("want KEY, KEY=IP or KEY=IP:PORT"))
			}
		}
		o.Secondaries = append(o.Secondaries, secondary)
	}
	made, err := transfer.New(o)
	if err != nil {
		return nil, fmt.Errorf("--%ssecondary, --%stsig-file: %w", f.prefix, f.prefix, err)
	}
	return made, nil
}

func (f *Flags) signer() (*sign.Signer, error) {
	if f.DNSSECKeyFile == "" {
		return nil, nil //nolint:nilnil // not to sign is an ordinary choice
	}
	text, err := os.ReadFile(f.DNSSECKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--%sdnssec-key-file: %w", f.prefix, err)
	}
	key, err := sign.ParseKey(text)
	if err != nil {
		return nil, wrong(f.prefix+"dnssec-key-file", f.DNSSECKeyFile, err)
	}
	made, err := sign.New(sign.Options{Key: key})
	if err != nil {
		return nil, wrong(f.prefix+"dnssec-key-file", f.DNSSECKeyFile, err)
	}
	return made, nil
}
