package sockets

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// workerVariable names the descriptor of a worker's end, in the environment of the worker.
const workerVariable = "HANSA_GATEWAY_PARENT"

// answerTimeout is how long the parent may take to answer.
const answerTimeout = 10 * time.Second

// Order is what a parent wants of its worker.
type Order string

const (
	// Retire says: another worker has the sockets, take no more connections, and end when those that are there have.
	Retire Order = "retire"
	// Stop says: the gateway goes. Tell others, and end.
	Stop Order = "stop"
	// Orphaned says: the parent is gone, and with it what keeps the sockets.
	Orphaned Order = "orphaned"
)

// Kept opens sockets in the parent, which keeps them: closing one closes it for this process only, until Release.
type Kept struct {
	conn    *net.UnixConn
	orders  chan Order
	answers chan answer

	mu sync.Mutex // one question at a time
}

type answer struct {
	text string
	fd   int // -1: none
}

// ErrNoParent says that this process is no worker.
var ErrNoParent = errors.New("this process was not started by a parent that keeps sockets")

// Inherited returns the way to the parent that started this process, or ErrNoParent. It may be called once.
func Inherited() (*Kept, error) {
	text, given := os.LookupEnv(workerVariable)
	if !given {
		return nil, ErrNoParent
	}
	if err := os.Unsetenv(workerVariable); err != nil { // it is of nobody's use below
		return nil, fmt.Errorf("reading %s: %w", workerVariable, err)
	}
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", workerVariable, err)
	}
	unix.CloseOnExec(int(fd))
	conn, err := pairEnd(os.NewFile(uintptr(fd), "parent"))
	if err != nil {
		return nil, err
	}
	return newKept(conn), nil
}

func newKept(conn *net.UnixConn) *Kept {
	k := &Kept{conn: conn, orders: make(chan Order, 1), answers: make(chan answer)}
	go k.read()
	return k
}

// pairEnd makes a connection of one end of a pair, and closes the file.
func pairEnd(file *os.File) (*net.UnixConn, error) {
	defer func() { _ = file.Close() }()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("using the way between parent and worker: %w", err)
	}
	end, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("using the way between parent and worker: it is a %s", conn.RemoteAddr().Network())
	}
	return end, nil
}

// Orders returns the channel of what the parent wants. It is closed after Orphaned.
func (k *Kept) Orders() <-chan Order { return k.orders }

// read takes what the parent says, until it is gone.
func (k *Kept) read() {
	defer close(k.answers)
	defer close(k.orders)
	for {
		text, fd, err := receive(k.conn)
		if err != nil {
			k.order(Orphaned)
			return
		}
		switch order := Order(text); order {
		case Retire, Stop:
			k.order(order)
		case Orphaned:
		default:
			select {
			case k.answers <- answer{text, fd}:
			case <-time.After(answerTimeout): // nobody waits for it any more
				discard(fd)
			}
			continue
		}
		discard(fd)
	}
}

// order hands an order out. One that nobody has taken yet gives way: the newest counts.
func (k *Kept) order(order Order) {
	for {
		select {
		case k.orders <- order:
			return
		default:
		}
		select {
		case <-k.orders:
		default:
		}
	}
}

// Ready tells the parent that this worker serves: it may have the one before retire.
func (k *Kept) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.say(request{verb: verbReady})
}

// Listen is Direct's, with a socket of the parent.
func (k *Kept) Listen(network string, addr netip.AddrPort) (net.Listener, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("listening on %s %s: want tcp", network, addr)
	}
	file, err := k.take(key{network, plain(addr)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listening on %s %s with the parent's socket: %w", network, addr, err)
	}
	return listener, nil
}

// ListenPacket is Direct's, with a socket of the parent.
func (k *Kept) ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error) {
	if network != "udp" {
		return nil, fmt.Errorf("listening on %s %s: want udp", network, addr)
	}
	file, err := k.take(key{network, plain(addr)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("listening on %s %s with the parent's socket: %w", network, addr, err)
	}
	return conn, nil
}

// Release has the parent close its sockets at an address: that which was asked for, or where it is.
func (k *Kept) Release(addr netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.say(request{verb: verbRelease, key: key{addr: plain(addr)}}) // a parent that is gone keeps nothing
}

// take asks the parent for a socket.
func (k *Kept) take(at key) (*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.say(request{verb: verbListen, key: at}); err != nil {
		return nil, err
	}
	select {
	case got, ok := <-k.answers:
		if !ok {
			return nil, fmt.Errorf("asking the parent for %s: it is gone", at)
		}
		if _, err := parseAnswer(got.text); err != nil {
			discard(got.fd)
			return nil, err
		}
		if got.fd < 0 {
			return nil, fmt.Errorf("asking the parent for %s: it gave no socket; are there too many open files?", at)
		}
		return os.NewFile(uintptr(got.fd), at.String()), nil
	case <-time.After(answerTimeout):
		_ = k.conn.Close() // what it says from now on would answer something else
		return nil, fmt.Errorf("asking the parent for %s: no answer in %v", at, answerTimeout)
	}
}

func (k *Kept) say(r request) error {
	if err := k.conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return fmt.Errorf("asking the parent: %w", err)
	}
	if _, err := k.conn.Write([]byte(r.String())); err != nil {
		return fmt.Errorf("asking the parent: %w", err)
	}
	return nil
}

// receive reads one message with the descriptor beside it, or -1.
func receive(conn *net.UnixConn) (text string, fd int, err error) {
	var octets [maxMessage + 1]byte
	var beside [64]byte
	n, m, _, _, err := conn.ReadMsgUnix(octets[:], beside[:])
	if err != nil {
		return "", -1, fmt.Errorf("reading from the other side: %w", err)
	}
	if n == 0 && m == 0 {
		return "", -1, io.EOF
	}
	fd = -1
	messages, err := unix.ParseSocketControlMessage(beside[:m])
	if err != nil {
		return "", -1, fmt.Errorf("reading from the other side: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // not descriptors
		}
		for _, each := range fds {
			discard(fd)
			fd = each
		}
	}
	return string(octets[:n]), fd, nil
}

func discard(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
