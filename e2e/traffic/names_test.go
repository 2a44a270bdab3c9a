package traffic_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/addons"
	"github.com/hansa-dev/hansa/e2e/script"
)

// serveNames starts the DNS server of every member of a lab with a hub, where the member's CoreDNS asks.
func (w *world) serveNames(ctx context.Context, name string) error {
	l, err := lab.New(lab.Options{Name: name})
	if err != nil {
		return err
	}
	clusters, err := l.Clusters()
	if err != nil {
		return err
	}
	for _, c := range clusters {
		if c.Name == lab.Hub {
			continue
		}
		bootstrap := exec.CommandContext(ctx, w.bin("hansa"), "--context=hub", "xds", "bootstrap", "--cluster="+c.Name, "--dir="+certificates(l, c.Name), "--output="+os.DevNull)
		bootstrap.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
		if out, err := bootstrap.CombinedOutput(); err != nil {
			return fmt.Errorf("writing the certificate of %s: %w\n%s", c.Name, err, out)
		}
		if err := w.run(ctx, append([]string{"--name=" + name}, w.namesProgram(l, c.Name)...)...); err != nil {
			return err
		}
	}
	return nil
}

// namesProgram are the arguments with which hansa-lab runs the DNS server of a cluster, on the cluster's first node: with
// a certificate for the hub, and a folder that the next one finds again. The first line of its log is when
// it was started.
func (w *world) namesProgram(l *lab.Lab, cluster string) []string {
	at := nameServer(cluster)
	return []string{
		"run", namesName(cluster), "--in=" + cluster, "--", "sh", "-c", `date +%s%N; exec "$@"`, "sh", w.bin("hansa"), "dns", "--cluster=" + cluster, "--addr=" + at.String(),
		"--hub=" + hubName + ":" + strconv.Itoa(xdsPort), "--tls-dir=" + certificates(l, cluster), "--state-dir=" + filepath.Join(l.Dir(), namesName(cluster)),
		"--nameserver=ns.dns.clusterset.local=" + at.Addr().String(),
	}
}

// certificates is where the certificate of a cluster's clients lies, for its DNS server.
func certificates(l *lab.Lab, cluster string) string {
	return filepath.Join(l.Dir(), namesName(cluster)+"-tls")
}

func namesName(cluster string) string { return "dns-" + cluster }

// nameServer is where the DNS server of a cluster listens.
func nameServer(cluster string) netip.AddrPort {
	index, _ := strconv.Atoi(strings.TrimPrefix(cluster, "m")) // the hub has 0
	return addons.ClusterSetDNS(index)
}

// labOf is the lab of a script.
func labOf(ts *testscript.TestScript) *lab.Lab {
	l, err := lab.New(lab.Options{Name: ts.Getenv("LAB")})
	ts.Check(err)
	return l
}

// namesCommand starts the DNS server of a cluster again.
func (w *world) namesCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dns-program CLUSTER")
	}
	program, full := spell(ts, "lab", w.namesProgram(labOf(ts), args[0]))
	script.Outcome(ts, false, ts.Exec(program, full...))
}

// outageCommand kills the API servers of all clusters; negated, it starts them again, and the hub program that was killed
// before. When the script ends meanwhile, whatever the reason, they are started for those that follow. Members come first:
// the longer the API server of a node was away, the longer the node waits before it looks again.
func (w *world) outageCommand(ts *testscript.TestScript, neg bool, args []string) {
	const under = "OUTAGE"
	if len(args) != 0 {
		ts.Fatalf("usage: outage, ! outage")
	}
	run := func(args ...string) {
		program, full := spell(ts, "lab", args)
		ts.Check(ts.Exec(program, full...))
	}
	end := func() {
		if ts.Getenv(under) == "" {
			return
		}
		ts.Setenv(under, "")
		for _, cluster := range []string{"m1", "m2", "m3", lab.Hub} {
			run("start", cluster)
		}
		run(w.hubProgram(0)...)
	}
	if neg {
		end()
		return
	}
	ts.Setenv(under, "yes")
	ts.Defer(end)
	for _, cluster := range []string{lab.Hub, "m1", "m2", "m3"} {
		run("kill", "apiserver", cluster)
	}
}

// signedCommand starts a second DNS server in a cluster, on the next port, that signs its answers.
func (w *world) signedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: signed-dns-program CLUSTER")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	path := filepath.Join(ts.Getenv("WORK"), "signing-key.pem")
	ts.Check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	at := nameServer(args[0])
	program, full := spell(ts, "lab", []string{
		"run", "signed-" + ts.Getenv("NS"), "--in=" + args[0], "--", w.bin("hansa"), "dns", "--cluster=" + args[0],
		"--addr=" + netip.AddrPortFrom(at.Addr(), at.Port()+1).String(), "--metrics-addr=0", "--dnssec-key-file=" + path,
		"--hub=" + hubName + ":" + strconv.Itoa(xdsPort), "--tls-dir=" + certificates(labOf(ts), args[0]),
	})
	script.Outcome(ts, false, ts.Exec(program, full...))
}

// spellDig is dig or kdig on a node of a cluster, asking the cluster's DNS server for global names.
func spellDig(ts *testscript.TestScript, tool string, args []string) (program string, full []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: %s CLUSTER ARGS...", tool)
	}
	at := nameServer(args[0])
	command := []string{"exec", args[0], "--", tool, "@" + at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "+timeout=2", "+tries=1"}
	if tool == "kdig" {
		command[len(command)-1] = "+retry=0"
	}
	return spell(ts, "lab", append(command, args[1:]...))
}

// agreeCommand has dig and kdig ask the same questions, and compares what they say. Its output is kdig's.
func agreeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: agree CLUSTER NAME TYPE [NAME TYPE]...")
	}
	var said [2][]string
	for i, tool := range []string{"dig", "kdig"} {
		program, full := spellDig(ts, tool, slices.Concat(args[:1], []string{"+noall", "+answer", "+authority"}, args[1:]))
		ts.Check(ts.Exec(program, full...))
		said[i] = records(ts.ReadFile("stdout"))
	}
	if len(said[0]) == 0 || !slices.Equal(said[0], said[1]) {
		ts.Fatalf("dig and kdig do not agree on %v:\n%s\n\n%s", args[1:], strings.Join(said[0], "\n"), strings.Join(said[1], "\n"))
	}
}

// records are the records in an output, in the same form and order whoever wrote it.
func records(output string) []string {
	var all []string
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], ";") {
			if len(fields) > 6 && fields[3] == "SOA" {
				fields[6] = "(serial)" // services of scripts beside this one come and go between two questions
			}
			all = append(all, strings.ToLower(strings.Join(fields, " ")))
		}
	}
	slices.Sort(all)
	return all
}
