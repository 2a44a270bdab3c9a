package traffic_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/failover"
	"github.com/hansa-dev/hansa/e2e/script"
)

// storyOf is the story of failover in the lab with a name.
func (w *world) storyOf(name string) (*failover.Story, error) {
	l, err := lab.New(lab.Options{Name: name})
	if err != nil {
		return nil, err
	}
	return &failover.Story{Lab: l, Bin: w.bin(""), Workload: w.workload, Out: os.Stderr}, nil
}

// TestGateways runs the stories of gateways: three members in networks of their own, 20 ms apart, with an agent in each.
func TestGateways(t *testing.T) {
	name := alone(mostAlone - 2)
	t.Cleanup(func() {
		if err := shared.run(context.Background(), "--name="+name, "down"); err != nil {
			t.Error(err)
		}
	})
	if err := shared.run(t.Context(), "--name="+name, "up", "--traffic", "--members=3", "--region=m1=north,m2=north,m3=south", "--image=hansa="+shared.bin("hansa")); err != nil {
		t.Fatal(err)
	}
	story, err := shared.storyOf(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := story.SetUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	params := shared.params("testdata/gateways", func(string) string { return name })
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	t.Run("scripts", func(t *testing.T) { testscript.RunT(script.Serial{T: t}, params) })
}

// faultOf is the fault of a story with a name.
func faultOf(ts *testscript.TestScript, name string) failover.Fault {
	faults := failover.Faults()
	i := slices.IndexFunc(faults, func(f failover.Fault) bool { return f.Name == name })
	if i < 0 {
		ts.Fatalf("there is no fault %q", name)
	}
	return faults[i]
}

// faultCommand has something die while the client of the story calls its service, and mends it. No call may fail that was
// begun after it.
func (w *world) faultCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fault NAME")
	}
	fault := faultOf(ts, args[0])
	fault.Lasts = 4 * time.Second // more than verdicts take
	w.measure(ts, fault)
}

// callingCommand has the client of the story call while m1 has no Pods and a command runs. No call may fail at all.
func (w *world) callingCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: calling DURATION COMMAND...")
	}
	lasts, err := time.ParseDuration(args[0])
	ts.Check(err)
	said := ""
	fault := faultOf(ts, "link") // for the world in which it happens: m2 serves
	fault.Name, fault.Lasts = args[1], lasts
	fault.Strike = func(context.Context, *failover.Story) error {
		err := ts.Exec(args[1], args[2:]...)
		said = ts.ReadFile("stdout")
		return err
	}
	o := w.measure(ts, fault)
	if o.CutOff != 0 {
		ts.Fatalf("%d calls failed meanwhile: %v", o.CutOff, o.Errors)
	}
	if all := failover.Before + lasts; o.StruckS > all.Seconds() {
		ts.Fatalf("the command ended %.1f s after the first call, and the last one began after %s", o.StruckS, all)
	}
	_, err = io.WriteString(ts.Stdout(), said)
	ts.Check(err)
}

// measure has something happen to the story in the lab. No call may fail that was begun after it, and none may be delivered
// twice.
func (w *world) measure(ts *testscript.TestScript, fault failover.Fault) failover.Outcome {
	story, err := w.storyOf(ts.Getenv("LAB"))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 3*script.Patience)
	defer cancel()
	outcome, err := story.Measure(ctx, fault)
	ts.Check(err)
	ts.Check(failover.Table(ts.Stdout(), []failover.Outcome{outcome}))
	ts.Logf("%s: %d calls, %d failed, %d cut off, worst %.0f ms, answers %v", fault.Name, outcome.Sent, outcome.Failed, outcome.CutOff, outcome.WorstMS, outcome.Answers)
	if outcome.Failed != 0 || outcome.Twice != 0 {
		ts.Fatalf("of %d calls %d failed that were begun after it (%v), and %d were delivered twice; want none", outcome.Sent, outcome.Failed, outcome.Errors, outcome.Twice)
	}
	return outcome
}

// strikeCommand does what is done in a fault of the story, and no more; mendCommand makes it as it was.
func (w *world) strikeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: strike FAULT")
	}
	story, err := w.storyOf(ts.Getenv("LAB"))
	ts.Check(err)
	ts.Check(faultOf(ts, args[0]).Strike(context.Background(), story))
}

func (w *world) mendCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mend FAULT")
	}
	story, err := w.storyOf(ts.Getenv("LAB"))
	ts.Check(err)
	ts.Check(faultOf(ts, args[0]).Mend(context.Background(), story))
}

// certificateCommand writes a certificate that nobody has signed but itself, and its key, into $WORK: NAME.crt, NAME.key. It
// is good for the names; one with a scheme is a SPIFFE ID.
func certificateCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: certificate FILE NAME...")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range args[1:] {
		if !strings.Contains(name, "://") {
			template.DNSNames = append(template.DNSNames, name)
			continue
		}
		id, err := url.Parse(name)
		ts.Check(err)
		template.URIs = append(template.URIs, id)
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	path := filepath.Join(ts.Getenv("WORK"), args[0])
	ts.Check(os.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	ts.Check(os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// spellMetrics is the program that prints the metrics of a cluster's gateway.
func spellMetrics(ts *testscript.TestScript, args []string) (program string, full []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: metrics CLUSTER")
	}
	cluster := args[0]
	return spell(ts, "lab", []string{"exec", cluster, "--", "curl", "-sSf", "--max-time", "5", "http://" + nameServer(cluster).Addr().String() + ":15090/metrics"})
}

// halfEnv has this program hold a conversation of which it ends its half, instead of testing: "HOST:PORT".
const halfEnv = "TRAFFIC_HALF_CLOSE"

// halfClose says lines to a server that repeats lines, says that it has no more, and prints everything that comes then.
func halfClose(address string, out io.Writer) error {
	const patience = 10 * time.Second
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("no TCP")
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil { // who answers
		return fmt.Errorf("the greeting: %w", err)
	}
	if _, err := io.WriteString(conn, "one\ntwo\n?plain&delay=300ms\n"); err != nil { // the last answer comes later than our end
		return err
	}
	if err := tcp.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("after our end: %w", err)
	}
	_, err = fmt.Fprintln(out, "end")
	return err
}

// spellHalf is the program that ends its half of a conversation, on the first node of a cluster: Pods do not see its file.
func spellHalf(ts *testscript.TestScript, args []string) (program string, full []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: half-close CLUSTER HOST:PORT")
	}
	self, err := os.Executable()
	ts.Check(err)
	return spell(ts, "lab", []string{"exec", args[0], "--", "env", halfEnv + "=" + args[1], self})
}
