package sockets_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/eastwest/gateway/sockets"
	"github.com/hansa-dev/hansa/federation/imports"
)

// Every port that services may be given has a place, and a few more sockets besides, and the page that people make their
// firewalls by names all of them.
func TestEveryPortOfServicesHasAPlace(t *testing.T) {
	const ports = imports.LastGatewayPort - imports.FirstGatewayPort + 1
	if least := 2*ports + 2; sockets.MaxSockets < least {
		t.Errorf("%d sockets are kept; TCP and UDP of %d ports, and DNS, are %d", sockets.MaxSockets, ports, least)
	}
	page, err := os.ReadFile("../../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%d–%d", imports.FirstGatewayPort, imports.LastGatewayPort)
	for _, line := range []string{
		"| " + said + " TCP, UDP | gateway, inside address |",
		"| Pods and nodes of a cluster | its own gateway nodes | " + said + ",",
		"Close " + said + " and ",
		fmt.Sprintf("there are %d,%03d of TCP, and as many of UDP", ports/1000, ports%1000),
	} {
		if !strings.Contains(string(page), line) {
			t.Errorf("docs/gateway.md does not say %q", line)
		}
	}
}
