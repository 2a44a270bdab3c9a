package agent_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// TestOverload sends ten times what the program can answer, and more: each query is for another name and wants a signature. It
// drops the rest, goes on, and does not grow.
//
// What is bounded is the memory that it asks for (RssAnon): 64 MiB. The pages of its file that are mapped (RssFile) come on
// top of that in VmRSS; the kernel shares them among processes, and takes them back when memory is short.
func TestOverload(t *testing.T) {
	const (
		most     = 64 << 20 // octets
		overload = 10       // times what is answered
		duration = 3 * time.Second
	)
	t.Setenv("GOMAXPROCS", "1") // so that the senders have the other processors
	p := run(t, "--zone-file", write(t, "one.zone", "$ORIGIN example.org.\n"+zoneFile), "--dnssec-key-file", signingKey(t))
	addr := p.addr()
	idle := p.memory()
	before := p.counts()
	peak := idle
	var senders sync.WaitGroup
	end := time.Now().Add(duration)
	for i := range 4 {
		senders.Go(func() { flood(t, addr, i, end) })
	}
	for time.Now().Before(end) {
		now := p.memory()
		peak.anonymous, peak.file = max(peak.anonymous, now.anonymous), max(peak.file, now.file)
		<-time.After(20 * time.Millisecond)
	}
	senders.Wait()
	p.recovers("www.example.org.")
	after := p.counts()
	answered := after["hansa_dns_udp_responses_total"] - before["hansa_dns_udp_responses_total"]
	overflowed := after[`hansa_dns_udp_lost_total{reason="overflow"}`] - before[`hansa_dns_udp_lost_total{reason="overflow"}`]
	t.Logf("%.0f queries were answered and %.0f dropped in %s; octets idle: %d of its own, %d of its file; at most: %d and %d",
		answered, overflowed, duration, idle.anonymous, idle.file, peak.anonymous, peak.file)
	if answered == 0 || overflowed < (overload-1)*answered {
		t.Errorf("that was no overload of %d times", overload)
	}
	if peak.anonymous > most {
		t.Errorf("it took %d MiB, more than %d", peak.anonymous>>20, most>>20)
	}
	if panics := after["hansa_dns_panics_total"]; panics != 0 {
		t.Errorf("%v panics", panics)
	}
	p.stop()
}

// recovers asks until there is an answer: while the queue is full, queries get lost.
func (p *program) recovers(name string) {
	p.t.Helper()
	query := new(miekg.Msg).SetQuestion(name, miekg.TypeA)
	client := miekg.Client{Timeout: 200 * time.Millisecond}
	for deadline := time.Now().Add(patience); ; {
		if _, _, err := client.ExchangeContext(p.t.Context(), query, p.addr()); err == nil {
			return
		} else if time.Now().After(deadline) {
			p.t.Fatalf("it does not answer again: %v", err)
		}
	}
}

// signingKey writes a key for DNSSEC.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

// flood sends queries for names that are not there as fast as it can, and takes no answers.
func flood(t *testing.T, to string, sender int, end time.Time) {
	conn, err := net.Dial("udp", to) //nolint:noctx // a datagram
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	query := new(miekg.Msg)
	query.SetQuestion("00000000."+strconv.Itoa(sender)+".example.org.", miekg.TypeA)
	query.SetEdns0(1232, true)
	message, err := query.Pack()
	if err != nil {
		t.Error(err)
		return
	}
	for n := 0; n%256 != 0 || time.Now().Before(end); n++ {
		copy(message[13:21], fmt.Sprintf("%08d", n))
		if _, err := conn.Write(message); err != nil {
			t.Error(err)
			return
		}
	}
}

// memory is what of a process is in memory, in octets.
type memory struct{ anonymous, file int }

func (p *program) memory() (m memory) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		for name, into := range map[string]*int{"RssAnon:": &m.anonymous, "RssFile:": &m.file} {
			value, found := strings.CutPrefix(line, name)
			if !found {
				continue
			}
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				p.t.Fatal(err)
			}
			*into = kib << 10
		}
	}
	if m.anonymous == 0 || m.file == 0 {
		p.t.Fatalf("the kernel does not tell what is in memory:\n%s", status)
	}
	return m
}

// counts are the program's metrics, by series.
func (p *program) counts() map[string]float64 {
	p.t.Helper()
	counts := map[string]float64{}
	for scanner := bufio.NewScanner(strings.NewReader(p.get("/metrics"))); scanner.Scan(); {
		series, value, _ := strings.Cut(scanner.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			counts[series] = number
		}
	}
	return counts
}
