package sockets_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
)

// What this test binary is when it was started by a test: a worker, or a parent.
const (
	roleVariable   = "SOCKETS_TEST_ROLE"
	listenVariable = "SOCKETS_TEST_LISTEN"
	extraVariable  = "SOCKETS_TEST_EXTRA" // a file; while it is there, workers do not get ready
	moreVariable   = "SOCKETS_TEST_MORE"  // a file with an address; while it is there, workers listen at it, too
	programFlag    = "SOCKETS_TEST_PROGRAM"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "parent":
		end(parent())
	default: // by parents it is not changed: who has a parent is a worker
		end(work())
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// parent keeps a worker of its own.
func parent() error {
	if _, worker := os.LookupEnv("HANSA_GATEWAY_PARENT"); worker {
		return work()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := funcr.New(func(_, args string) { fmt.Fprintln(os.Stderr, "parent:", args) }, funcr.Options{})
	p, err := sockets.NewParent(sockets.Options{Program: os.Getenv(programFlag), Look: -1, Log: log})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// work serves a socket of the parent: it answers each line with the number of its process.
func work() error {
	if os.Getenv(extraVariable) == "fail" {
		return errors.New("this worker does not like its configuration")
	}
	kept, err := sockets.Inherited()
	if err != nil {
		return err
	}
	addr := netip.MustParseAddrPort(os.Getenv(listenVariable))
	listener, err := kept.Listen("tcp", addr)
	if err != nil {
		return err
	}
	packets, err := kept.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	go echo(packets)
	var serving sync.WaitGroup
	release, err := listenMore(kept)
	if err != nil {
		return err
	}
	serving.Go(func() { accept(listener, &serving, release) })
	if file := os.Getenv(extraVariable); file != "" {
		for _, err := os.Stat(file); err == nil; _, err = os.Stat(file) {
			glance()
		}
	}
	if err := kept.Ready(); err != nil {
		return err
	}
	<-kept.Orders()
	_ = listener.Close()
	_ = packets.Close()
	serving.Wait()
	return nil
}

// listenMore opens the other address, if there is one, and returns what gives it up.
func listenMore(kept *sockets.Kept) (release func(), err error) {
	text, err := os.ReadFile(os.Getenv(moreVariable))
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	addr, err := netip.ParseAddrPort(string(text))
	if err != nil {
		return nil, err
	}
	listener, err := kept.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return func() {
		_ = listener.Close()
		kept.Release(addr)
	}, nil
}

func echo(packets net.PacketConn) {
	var octets [512]byte
	for {
		_, from, err := packets.ReadFrom(octets[:])
		if err != nil {
			return
		}
		_, _ = packets.WriteTo([]byte(strconv.Itoa(os.Getpid())), from)
	}
}

func accept(listener net.Listener, serving *sync.WaitGroup, release func()) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer func() { _ = conn.Close() }()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if lines.Text() == "release" {
					release()
				}
				if _, err := fmt.Fprintf(conn, "%d\n", os.Getpid()); err != nil {
					return
				}
			}
		})
	}
}

// glance is the time between two looks at a condition.
func glance() { <-time.After(2 * time.Millisecond) }
