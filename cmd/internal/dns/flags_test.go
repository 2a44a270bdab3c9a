package dns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// parse returns flags from a line.
func parse(t *testing.T, prefix, line string) *dns.Flags {
	t.Helper()
	f := &dns.Flags{}
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Add(set, prefix)
	if err := set.Parse(strings.Fields(line)); err != nil {
		t.Fatal(err)
	}
	return f
}

// write writes a file of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const keys = `key "second" { algorithm hmac-sha256; secret "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"; };`

func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// TestFlagErrors holds that a flag that is wrong is named, with its value and what is wanted. An empty want means that the
// flags are good.
func TestFlagErrors(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	tsig, dnssec := write(t, "keys", keys), signingKey(t)
	const addr = "--dns-addr 127.0.0.1:0 "
	for _, c := range []struct{ reason, args, want string }{
		{"nothing but an address", addr, ""},
		{"all of them", addr + "--dns-cluster m1/a --dns-listener 127.0.0.1=m2 --dns-source 10.0.0.0/8=m1,fd00::/8=m2/b --dns-region 192.0.2.7=eu,2001:db8::/32=us " +
			"--dns-zone my.zone. --dns-nameserver ns.my.zone=192.0.2.1,ns.my.zone=2001:db8::1 --dns-ttl 30 --dns-external-zone global.example.org " +
			"--dns-kubefed-zone fed=example.com --dns-per-cluster-zone clusters.example.org --dns-upstream 192.0.2.53,[2001:db8::53]:5353 --dns-upstream-for 10.0.0.0/8,2001:db8::/32,192.0.2.1 --dns-rate-limit 10 " +
			"--dns-nsid me --dns-chaos-version none --dns-secondary second,second=192.0.2.9,second=192.0.2.9:5353 --dns-tsig-file " + tsig + " --dns-dnssec-key-file " + dnssec, ""},

		{"no address", "", "there is no address to listen on"},
		{"an address without a port", "--dns-addr 127.0.0.1", `--dns-addr`},
		{"a name for an address", "--dns-addr localhost:53", `"localhost" is no IP address`},
		{"an address of others", "--dns-addr 192.0.2.1:0", "no interface of this host has this address"},

		{"a cluster with a dot", addr + "--dns-cluster m.1", `--dns-cluster "m.1": "m.1" is no id of a cluster`},
		{"a cluster without a zone", addr + "--dns-cluster m1/", `"" is no zone`},
		{"a listener that is none", addr + "--dns-listener x=m1", `--dns-listener "x=m1": "x" is no address`},
		{"a listener of all addresses", addr + "--dns-listener 0.0.0.0=m1", "want that of one interface"},
		{"a listener at which nothing listens", addr + "--dns-listener 127.0.0.2=m1", "nothing listens at 127.0.0.2: add it to --dns-addr"},
		{"a listener at another port", "--dns-addr 127.0.0.1:5353 --dns-listener 127.0.0.1:53=m1", "nothing listens at 127.0.0.1:53"},
		{"a listener twice", addr + "--dns-listener 127.0.0.1=m1,127.0.0.1=m2", "127.0.0.1:0 is given twice"},
		{"one address of all", "--dns-addr :0 --dns-listener 192.0.2.1=m1", ""},
		{"a source of nobody", addr + "--dns-source 10.0.0.0/8", "want two parts with = between them"},
		{"a source that is no network", addr + "--dns-source 10.0.0/8=m1", `"10.0.0/8" is no network`},
		{"a source with more than its network", addr + "--dns-source 10.1.0.0/8=m1", "10.0.0.0/8 is meant, or another length"},
		{"a source twice", addr + "--dns-source 10.0.0.1=m1,10.0.0.1/32=m2", "10.0.0.1/32 is given twice"},
		{"a source in no cluster", addr + "--dns-source 10.0.0.1=", `"" is no id of a cluster`},
		{"a source as it is mapped", addr + "--dns-source ::ffff:10.0.0.0/104=m1", "is no network"},
		{"a region without a name", addr + "--dns-region 10.0.0.0/8=", `"" is no region`},
		{"a region with a space", addr + "--dns-region 10.0.0.0/8=a/b", `"a/b" is no region`},

		{"the root", addr + "--dns-zone .", "below the root"},
		{"no zone", addr + "--dns-zone a..b", `--dns-zone "a..b"`},
		{"a zone twice", addr + "--dns-external-zone Clusterset.Local", "--dns-zone has this zone already"},
		{"two external zones of a name", addr + "--dns-external-zone a.b,a.b.", "--dns-external-zone has this zone already"},
		{"a zone of clusters that is taken", addr + "--dns-per-cluster-zone a.b --dns-external-zone a.b", "--dns-per-cluster-zone has this zone already"},
		{"KubeFed's zone without a federation", addr + "--dns-kubefed-zone example.com", "want FEDERATION=DOMAIN"},
		{"a federation of two labels", addr + "--dns-kubefed-zone a.b=example.com", "the federation is one label"},
		{"a server without an address", addr + "--dns-nameserver ns.example.org", "want NAME=IP"},
		{"a server without a name", addr + "--dns-nameserver =192.0.2.1", "want NAME=IP"},
		{"answers for no time", addr + "--dns-ttl 0", `--dns-ttl "0": want 1 to 2147483647 seconds`},
		{"answers for too long", addr + "--dns-ttl 2147483648", "want 1 to 2147483647 seconds"},

		{"an upstream by name", addr + "--dns-upstream dns.example.org", "want IP or IP:PORT"},
		{"an upstream that is this server", "--dns-addr :5353 --dns-upstream 127.0.0.1:5353", "would ask itself"},
		{"an upstream on this machine", "--dns-addr 127.0.0.1:0 --dns-upstream 127.0.0.1:53", ""},
		{"an upstream for nobody", addr + "--dns-upstream 192.0.2.53 --dns-upstream-for example.org", `--dns-upstream-for "example.org": "example.org" is no network`},
		{"for whom nobody is asked", addr + "--dns-upstream-for 10.0.0.0/8", "--dns-upstream-for goes with --dns-upstream"},
		{"less than no responses", addr + "--dns-rate-limit -1", "--dns-rate-limit -1: want 0 to 1000000"},
		{"more responses than can be told apart", addr + "--dns-rate-limit 1000001", "--dns-rate-limit 1000001: want 0 to 1000000"},
		{"a name that makes responses large", addr + "--dns-nsid " + strings.Repeat("x", 129), "--dns-nsid has 129 octets: want at most 128"},
		{"a version that does not fit", addr + "--dns-chaos-version " + strings.Repeat("x", 256), "--dns-chaos-version has 256 octets: want at most 255"},

		{"a secondary without keys", addr + "--dns-secondary k", "--dns-secondary needs --dns-tsig-file"},
		{"keys for nobody", addr + "--dns-tsig-file " + tsig, "--dns-tsig-file needs --dns-secondary"},
		{"keys that are not there", addr + "--dns-secondary k --dns-tsig-file " + none, "--dns-tsig-file: open " + none},
		{"keys that are none", addr + "--dns-secondary k --dns-tsig-file " + dnssec, "--dns-tsig-file"},
		{"a secondary without its key", addr + "--dns-secondary third --dns-tsig-file " + tsig, "third"},
		{"a secondary by name", addr + "--dns-secondary second=ns.example.org --dns-tsig-file " + tsig, "want KEY, KEY=IP or KEY=IP:PORT"},
		{"no key to sign with", addr + "--dns-dnssec-key-file " + none, "--dns-dnssec-key-file: open " + none},
		{"not a key to sign with", addr + "--dns-dnssec-key-file " + tsig, "--dns-dnssec-key-file"},

		{"TLS without a certificate", addr + "--dns-tls-addr 127.0.0.1:0", "need --dns-tls-cert-file and --dns-tls-key-file"},
		{"a certificate for nothing", addr + "--dns-tls-cert-file x --dns-tls-key-file y", "are for --dns-tls-addr or --dns-https-addr"},
		{"a certificate that is not there", addr + "--dns-tls-addr 127.0.0.1:0 --dns-tls-cert-file " + none + " --dns-tls-key-file " + none, none},
		{"a certificate that is none", addr + "--dns-https-addr 127.0.0.1:0 --dns-tls-cert-file " + tsig + " --dns-tls-key-file " + tsig, tsig},
	} {
		t.Run(c.reason, func(t *testing.T) {
			s, err := dns.New(dns.Options{
				Flags: parse(t, "dns-", c.args), Snapshots: clusterset.NewLatest(clusterset.NewBuilder(0).Current()), Log: logr.Discard(),
			})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s: %v", c.args, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s: %v, want %q", c.args, err, c.want)
			}
			if err == nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPrefix holds that flags have the prefix in their names, and that without an address nothing is served.
func TestPrefix(t *testing.T) {
	if f := parse(t, "dns-", ""); f.On() {
		t.Errorf("it is on without an address: %+v", f)
	}
	if f := parse(t, "", "--addr :53"); !f.On() {
		t.Errorf("it is off: %+v", f)
	}
	if f := parse(t, "x-", "--x-tls-addr :853"); !f.On() {
		t.Errorf("it is off: %+v", f)
	}
}
