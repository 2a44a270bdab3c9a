package tunnel_test

import (
	"io"
	"testing"
)

func TestEcho(t *testing.T) {
	s := serve(t, newPKI(t), accepting(echo), nil)
	d := s.dial(nil)
	stream := s.open(d, ask)
	if _, err := io.WriteString(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(stream); got != "hello" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}
