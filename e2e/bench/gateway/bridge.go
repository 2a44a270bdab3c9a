package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// bridge is HAProxy as one end of TLS between clusters: it takes connections as they are and carries them in TLS with a
// certificate of each side, or the other way round.
type bridge struct {
	name    string
	papers  papers
	listen  netip.AddrPort
	secure  bool // listens for TLS, and else connects with it
	servers []netip.AddrPort
	// failover has servers after the first used when it is down, which is looked for as fast as HAProxy can.
	failover bool
	threads  int
}

// config is what HAProxy reads. The files with papers are in dir.
func (b *bridge) config(dir string) string {
	tls := fmt.Sprintf(" ssl crt %s ca-file %s verify required", b.file(dir, "own"), b.file(dir, "roots"))
	bind, server := tls, ""
	if !b.secure {
		bind, server = "", tls
	}
	var c strings.Builder
	fmt.Fprintf(&c, `global
    nbthread %d
    maxconn %d
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
`, b.threads, maxConnections)
	if b.failover {
		c.WriteString("    timeout connect 250ms\n    timeout check 250ms\n    retries 3\n    option redispatch 1\n")
	}
	fmt.Fprintf(&c, "frontend in\n    bind %s%s\n    default_backend out\nbackend out\n    balance leastconn\n", b.listen, bind)
	for i, s := range b.servers {
		fmt.Fprintf(&c, "    server s%d %s%s", i, s, server)
		if b.failover {
			c.WriteString(" check inter 250ms fastinter 100ms fall 2 rise 2 on-marked-down shutdown-sessions")
			if i > 0 {
				c.WriteString(" backup")
			}
		}
		c.WriteString("\n")
	}
	return c.String()
}

func (b *bridge) file(dir, what string) string {
	return filepath.Join(dir, b.name+"-"+what+".pem")
}

// write puts the files of a bridge into dir and returns that of the configuration.
func (b *bridge) write(dir string) (string, error) {
	config := filepath.Join(dir, b.name+".cfg")
	for path, content := range map[string][]byte{
		b.file(dir, "own"):   append(append([]byte(nil), b.papers.certificate...), b.papers.key...),
		b.file(dir, "roots"): b.papers.roots,
		config:               []byte(b.config(dir)),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return "", fmt.Errorf("configuring HAProxy: %w", err)
		}
	}
	return config, nil
}

// program is a process that runs until stop.
type program struct {
	name  string
	cmd   *exec.Cmd
	said  bytes.Buffer
	ended chan struct{}
}

// launch starts a process.
func launch(name string, cmd *exec.Cmd, start func(func() error) error) (*program, error) {
	p := &program{name: name, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := start(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	return p, nil
}

func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
}

// serves waits until a program of this network namespace takes connections.
func (p *program) serves(ctx context.Context, at netip.AddrPort) error {
	if err := await(ctx, at, p.ended); err != nil {
		p.stop()
		return fmt.Errorf("starting %s: %w; it said: %s", p.name, err, p.said.String())
	}
	return nil
}
