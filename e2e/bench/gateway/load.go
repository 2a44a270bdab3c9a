package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/eds/child"
	"github.com/hansa-dev/hansa/eastwest/gateway/hello"
)

// loadCommand makes the benchmark's program clients and endpoints.
const loadCommand = "gateway-load"

// The services: one whose endpoints only look as if they spoke TLS, so that clients and endpoints cost little, and one
// whose endpoints do.
const (
	plainService = "plain"
	tlsService   = "secure"
)

// serverName is what clients of a service ask for.
func serverName(service string) string { return service + ".bench.svc." + hello.DefaultDomain }

// kind is what clients do.
type kind string

const (
	begin   kind = "begin"   // nothing: endpoints are started
	plain   kind = "plain"   // a ClientHello, an octet back, end
	secure  kind = "secure"  // TLS, an octet each way, end
	bulk    kind = "bulk"    // a ClientHello, many octets back, end
	hold    kind = "hold"    // like plain, without the end
	release kind = "release" // the end of those held
	first   kind = "first"   // like plain; how long each took to its octet is told
	paced   kind = "paced"   // likewise, begun Parallel times per second whatever becomes of those before; failures are told
)

// job is a command to the clients.
type job struct {
	Kind            kind
	To              netip.AddrPort
	Count, Parallel int
	Octets          int64 // per connection, of bulk
}

// outcome is what they did.
type outcome struct {
	Done      int
	Octets    int64
	Endpoints endpoints
	// Took is how long each took, of first and paced, in their order; negative: it failed.
	Took []time.Duration
	// Began is when the first of paced calls was begun, in nanoseconds since 1970.
	Began int64
}

// endpoints are where services run.
type endpoints struct{ Plain, TLS []netip.AddrPort }

// perService is how many endpoints each has. Their addresses differ, so that ports do not run out.
const perService = 4

// orderSize is what follows a ClientHello: what is wanted, and how many octets.
const orderSize = 9

// Limits of a job: nobody waits for ever, and nothing leaves the machine.
const (
	maxJob     = 100_000
	ioPatience = 2 * time.Minute
)

// load is the clients and the endpoints.
type load struct {
	hello []byte // always the same
	held  []net.Conn
}

// serveLoad is the child.
func serveLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	l := &load{}
	var err error
	if l.hello, err = clientHello(ctx); err != nil {
		return err
	}
	return child.Serve(ctx, in, out, l.do)
}

// do carries out a command.
func (l *load) do(ctx context.Context, j job) (outcome, error) {
	switch j.Kind {
	case begin:
		to, err := l.listen(ctx)
		return outcome{Endpoints: to}, err
	case release:
		for _, conn := range l.held {
			_ = conn.Close()
		}
		l.held = nil
		return outcome{}, nil
	case first, paced:
		return l.timed(ctx, j)
	default:
		return l.connections(ctx, j)
	}
}

// callPatience is how long a client of paced calls waits.
const callPatience = 2 * time.Second

// timed makes connections one after the other, or at a pace.
func (l *load) timed(ctx context.Context, j job) (outcome, error) {
	if err := j.check(); err != nil {
		return outcome{}, err
	}
	o := outcome{Took: make([]time.Duration, j.Count)}
	var calls sync.WaitGroup
	defer calls.Wait()
	begin := time.Now()
	o.Began = begin.UnixNano()
	for i := range j.Count {
		if j.Kind == first {
			took, err := l.call(ctx, j.To, i)
			if err != nil {
				return o, err
			}
			o.Took[i] = took
			continue
		}
		due := time.NewTimer(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(j.Parallel))))
		select {
		case <-due.C:
		case <-ctx.Done():
			due.Stop()
			return o, ctx.Err()
		}
		calls.Go(func() {
			took, err := l.call(ctx, j.To, i)
			if err != nil {
				took = -1
			}
			o.Took[i] = took
		})
	}
	calls.Wait()
	for _, took := range o.Took {
		if took >= 0 {
			o.Done++
		}
	}
	return o, nil
}

// call makes a connection, and returns how long it took until the octet of the answer, and its end, were there.
func (l *load) call(ctx context.Context, to netip.AddrPort, i int) (time.Duration, error) {
	began := time.Now()
	d := net.Dialer{Timeout: callPatience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}} //nolint:gosec // G115: below 201
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return 0, fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(began.Add(callPatience)); err != nil {
		return 0, err
	}
	order := append(append([]byte(nil), l.hello...), plain[0])
	if _, err := conn.Write(binary.BigEndian.AppendUint64(order, 1)); err != nil {
		return 0, fmt.Errorf("asking: %w", err)
	}
	if _, err := io.ReadFull(conn, order[:1]); err != nil {
		return 0, fmt.Errorf("waiting for an answer: %w", err)
	}
	took := time.Since(began)
	if n, err := conn.Read(order[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("after the answer: %d octets, %w", n, err)
	}
	return took, nil
}

// check refuses a job that is not bounded.
func (j *job) check() error {
	if !j.To.Addr().IsLoopback() || j.Count < 1 || j.Count > maxJob || j.Parallel < 1 || j.Parallel > maxJob {
		return fmt.Errorf("a job that is not bounded: %+v", *j)
	}
	return nil
}

// connections makes the connections of a job.
func (l *load) connections(ctx context.Context, j job) (outcome, error) {
	if err := j.check(); err != nil {
		return outcome{}, err
	}
	var (
		next, done, octets atomic.Int64
		mu                 sync.Mutex
		failed             error
		clients            sync.WaitGroup
	)
	for client := range j.Parallel {
		clients.Go(func() {
			buffer := make([]byte, 256<<10)
			for next.Add(1) <= int64(j.Count) {
				n, err := l.connection(ctx, j, client, buffer, &mu)
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				done.Add(1)
				octets.Add(n)
			}
		})
	}
	clients.Wait()
	return outcome{Done: int(done.Load()), Octets: octets.Load()}, failed
}

// connection is what one connection does.
func (l *load) connection(ctx context.Context, j job, client int, buffer []byte, mu *sync.Mutex) (int64, error) {
	d := net.Dialer{Timeout: ioPatience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+client%200))}} //nolint:gosec // G115: below 201
	conn, err := d.DialContext(ctx, "tcp", j.To.String())
	if err != nil {
		return 0, fmt.Errorf("connecting: %w", err)
	}
	if j.Kind == hold {
		mu.Lock()
		l.held = append(l.held, conn)
		mu.Unlock()
	} else {
		defer func() { _ = conn.Close() }()
	}
	if err := conn.SetDeadline(time.Now().Add(ioPatience)); err != nil {
		return 0, err
	}
	if j.Kind == secure {
		return 0, talk(ctx, conn)
	}
	order := append(append([]byte(nil), l.hello...), j.Kind[0])
	if _, err := conn.Write(binary.BigEndian.AppendUint64(order, uint64(max(1, j.Octets)))); err != nil {
		return 0, fmt.Errorf("sending a ClientHello: %w", err)
	}
	if j.Kind == hold {
		_, err := io.ReadFull(conn, buffer[:1])
		return 1, err
	}
	total := int64(0)
	for {
		n, err := conn.Read(buffer)
		total += int64(n)
		switch {
		case errors.Is(err, io.EOF) && total == max(1, j.Octets):
			return total, nil
		case err != nil:
			return total, fmt.Errorf("after %d octets: %w", total, err)
		}
	}
}

// talk is a connection with TLS from end to end.
func talk(ctx context.Context, conn net.Conn) error {
	c := tls.Client(conn, &tls.Config{ServerName: serverName(tlsService), InsecureSkipVerify: true}) //nolint:gosec // G402: of the benchmark
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("shaking hands: %w", err)
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for an answer: %w", err)
	}
	return c.Close()
}

// listen starts the endpoints. They end with the process.
func (l *load) listen(ctx context.Context) (endpoints, error) {
	certificate, err := certify()
	if err != nil {
		return endpoints{}, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	var to endpoints
	for i := range perService {
		a, err := listen(ctx, byte(1+i), l.answer)
		if err != nil {
			return to, err
		}
		b, err := listen(ctx, byte(101+i), func(conn net.Conn) { answerTLS(tls.Server(conn, config)) })
		if err != nil {
			return to, err
		}
		to.Plain, to.TLS = append(to.Plain, a), append(to.TLS, b)
	}
	return to, nil
}

func listen(ctx context.Context, number byte, handle func(net.Conn)) (netip.AddrPort, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 2, number}), 0).String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("starting an endpoint: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return netip.ParseAddrPort(l.Addr().String())
}

// zeros are what endpoints send.
var zeros [256 << 10]byte

// answer does what an order says.
func (l *load) answer(conn net.Conn) {
	order := make([]byte, len(l.hello)+orderSize)
	if _, err := io.ReadFull(conn, order); err != nil {
		return
	}
	order = order[len(l.hello):]
	for rest := binary.BigEndian.Uint64(order[1:]); rest > 0; {
		n, err := conn.Write(zeros[:min(rest, uint64(len(zeros)))])
		if err != nil {
			return
		}
		rest -= uint64(n) //nolint:gosec // G115: not negative
	}
	if order[0] == hold[0] {
		_, _ = conn.Read(order) // until the client ends it
	}
}

func answerTLS(c *tls.Conn) {
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	_, _ = c.Write(b)
	_, _ = c.Read(b) // the end
	_ = c.Close()
}

// clientHello is what a client of the first service says first, as crypto/tls does.
func clientHello(ctx context.Context) ([]byte, error) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: serverName(plainService), MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
		_ = near.Close()
	}()
	b := make([]byte, 5)
	if _, err := io.ReadFull(far, b); err != nil {
		return nil, fmt.Errorf("making a ClientHello: %w", err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b[3:]))...)
	if _, err := io.ReadFull(far, b[5:]); err != nil {
		return nil, fmt.Errorf("making a ClientHello: %w", err)
	}
	return b, nil
}

// certify returns a certificate that nobody checks.
func certify() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{serverName(tlsService)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
