package network_test

import (
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

func TestReach(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := start(t, 2, 1, false)
		server := l.udp(t, "c1-n1", network.NodeIP(1, 1))
		go echo(server)
		client := l.udp(t, "c0-n1", network.NodeIP(0, 1))
		seen, took, err := ask(t, client, server, patience)
		if err != nil || seen != "172.20.0.11" {
			t.Fatalf("seen as %q, %v", seen, err)
		}
		t.Log("first answer after", took)
		ends := network.Ends{From: []string{"c0"}, Both: true}
		if _, err := l.Cut(t.Context(), ends); err != nil {
			t.Fatal(err)
		}
		if _, took, err := ask(t, client, server, 200*time.Millisecond); err == nil {
			t.Fatalf("answered over a cut link after %s", took)
		}
		if _, err := l.Heal(t.Context(), ends); err != nil {
			t.Fatal(err)
		}
		_, took, err = ask(t, client, server, patience)
		t.Log("next answer after", took, err)
		t.Log(l.link(t, "c0", "c1"))
	})
}
