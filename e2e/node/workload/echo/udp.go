package echo

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/fault"
)

// maxDatagram is the most that IPv4 carries, with some room for headers.
const maxDatagram = 65_000

// udpFront answers datagrams.
type udpFront struct {
	state *state
	conn  *net.UDPConn

	closing context.Context //nolint:containedctx // ends the delays of answers, when shutdown has no time left
	cancel  context.CancelFunc

	mu      sync.Mutex
	stopped bool
	delayed sync.WaitGroup
}

func openUDP(s *state, address string, _ *tls.Config) (front, error) {
	where, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", where)
	if err != nil {
		return nil, err
	}
	f := &udpFront{state: s, conn: conn}
	f.closing, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

func (f *udpFront) protocol() string { return answer.UDP }
func (f *udpFront) addr() net.Addr   { return f.conn.LocalAddr() }

func (f *udpFront) serve() error {
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := f.conn.ReadFromUDPAddrPort(buffer)
		switch {
		case f.isStopped():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // of a single datagram
			continue
		}
		f.receive(buffer[:n], client)
	}
}

func (f *udpFront) isStopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// receive answers at once, or later without keeping other clients waiting.
func (f *udpFront) receive(datagram []byte, client netip.AddrPort) {
	reply, plan := f.reply(datagram, client)
	if plan.Drop || plan.Hang || plan.Status >= 400 {
		return
	}
	if plan.Delay == 0 {
		_, _ = f.conn.WriteToUDPAddrPort(reply, client) // whoever does not get it asks again
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	f.delayed.Go(func() {
		if f.state.suffer(f.closing, plan) == nil {
			_, _ = f.conn.WriteToUDPAddrPort(reply, client) // as above
		}
	})
}

func (f *udpFront) reply(datagram []byte, client netip.AddrPort) ([]byte, fault.Plan) {
	a := f.state.answer(answer.UDP, client.String(), f.conn.LocalAddr().String())
	var wish fault.Wish
	if parameters, special := bytes.CutPrefix(datagram, []byte("?")); special {
		var err error
		parameters, datagram, _ = bytes.Cut(parameters, []byte("\n"))
		if wish, err = parseLine(parameters); err != nil {
			return append(refusal(err), '\n'), fault.Plan{}
		}
	}
	a.Echo = string(datagram)
	reply := text(a, wish, maxDatagram)
	if len(reply) > maxDatagram {
		return append(refusal(errors.New("the datagram is too long to be sent back")), '\n'), fault.Plan{}
	}
	return reply, f.state.plan(answer.UDP, wish)
}

func (f *udpFront) shutdown(ctx context.Context) {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	_ = f.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if it is closed
	defer f.cancel()
	stop := context.AfterFunc(ctx, f.cancel)
	defer stop()
	f.delayed.Wait()
	_ = f.conn.Close()
}
