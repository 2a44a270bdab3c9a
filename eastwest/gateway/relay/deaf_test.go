package relay_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// deaf is a client that cannot be told anything any more.
type deaf struct{ relay.Stream }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("its tunnel is gone") }

// TestExchangeDeaf holds that an answer that cannot be delivered ends the exchange. The socket that it came from is closed by
// who has just read it.
func TestExchangeDeaf(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	dial := func() *net.UDPConn {
		conn, err := net.Dial("udp", server.LocalAddr().String()) //nolint:noctx // a test's
		if err != nil {
			t.Fatal(err)
		}
		return conn.(*net.UDPConn)
	}
	client, near := dial(), dial()
	ended := make(chan relay.Outcome, 1)
	go func() {
		ended <- relay.Exchange(context.Background(), deaf{relay.UDP(client)}, relay.UDP(near), nil, time.Hour, &relay.Bytes{})
	}()
	if _, err := server.WriteTo([]byte("answer"), near.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-ended:
		if o != relay.ClientReset {
			t.Errorf("got %s", o)
		}
	case <-time.After(patience):
		t.Fatal("the exchange does not end")
	}
}
