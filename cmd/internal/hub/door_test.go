package hub_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/peer"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// Who was revoked is put out, and nobody else is; who leaves is forgotten.
func TestDoor(t *testing.T) {
	t.Parallel()
	var revoked atomic.Value // the address of who may not stay
	revoked.Store("")
	enter, recheck, inside := hub.Door(func(p *peer.Peer) (identity.ID, error) {
		if p.Addr.String() == revoked.Load() {
			return identity.ID{}, errors.New("its certificate was revoked")
		}
		return identity.ID{}, nil
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var clients, guests []net.Conn
	for range 3 {
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		guest, err := enter(conn)
		if err != nil {
			t.Fatal(err)
		}
		clients, guests = append(clients, client), append(guests, guest)
	}
	_ = guests[2].Close()
	revoked.Store(clients[0].LocalAddr().String())
	recheck()
	if _, err := clients[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who was revoked is still connected: %v", err)
	}
	if _, err := guests[1].Write([]byte("x")); err != nil {
		t.Errorf("who was not revoked is put out, too: %v", err)
	}
	if n := inside(); n != 1 {
		t.Errorf("%d are inside, want 1", n)
	}
}
