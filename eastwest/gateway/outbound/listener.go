package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener takes the connections, or the datagrams, of one port of a service.
type listener struct {
	gateway *Gateway
	service *service
	addr    netip.AddrPort
	tcp     net.Listener
	udp     *exchange
	running sync.WaitGroup
}

func (l *listener) open() error {
	if l.service.port.Datagrams() {
		conn, err := l.gateway.options.Sockets.ListenPacket("udp", l.addr)
		if err != nil {
			return fmt.Errorf("listening on %s for datagrams: %w", l.addr, err)
		}
		l.udp = newExchange(l.gateway, l.service, conn)
		return nil
	}
	tcp, err := l.gateway.options.Sockets.Listen("tcp", l.addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", l.addr, err)
	}
	l.tcp = tcp
	return nil
}

func (l *listener) start() {
	if l.udp != nil {
		l.running.Go(l.udp.run)
		return
	}
	l.running.Go(l.accept)
}

// close ends accepting. Connections go on; clients of UDP have none.
func (l *listener) close() {
	if l.udp != nil {
		l.udp.close()
		return
	}
	_ = l.tcp.Close()
}

// wait returns when nothing is accepted any more.
func (l *listener) wait() { l.running.Wait() }

// rest is for how long nothing is accepted when something is short, descriptors for example.
const rest = 50 * time.Millisecond

// accept takes connections until the listener is closed.
func (l *listener) accept() {
	for alarmed := false; ; {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !alarmed {
				alarmed = true
				l.gateway.log.Error(err, "no connections are accepted for now; if files are what is missing, raise the limit (ulimit -n)", "address", l.addr.String())
			}
			if !l.gateway.pause(rest) {
				return
			}
			continue
		}
		alarmed = false
		client, ok := conn.(*net.TCPConn)
		if !ok {
			_ = conn.Close()
			continue
		}
		l.gateway.active.Add(1)
		go l.gateway.serve(l.service, client)
	}
}

// pause waits, and returns false when the gateway is over.
func (g *Gateway) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.life.Done():
		return false
	}
}
