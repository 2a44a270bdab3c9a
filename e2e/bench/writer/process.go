package writer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Subcommand is the argument that makes the benchmark's program a writer; the kubeconfig and contexts follow.
const Subcommand = "bare"

// Process is a writer that runs beside the benchmark.
type Process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *bufio.Reader
	errors  *bytes.Buffer
	mu      sync.Mutex
}

// Start runs this same program as a writer to some contexts of a kubeconfig, and returns when its connections are open.
func Start(ctx context.Context, kubeconfig string, contexts ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the benchmark's own program: %w", err)
	}
	p := &Process{errors: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(ctx, self, append([]string{Subcommand, kubeconfig}, contexts...)...) //nolint:gosec // G204: our own program
	p.cmd.Stderr = p.errors
	p.cmd.WaitDelay = 5 * time.Second
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting a writer: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a writer: %w", err)
	}
	p.replies = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a writer: %w", err)
	}
	if _, err := p.reply(); err != nil {
		return nil, err
	}
	return p, nil
}

// Do carries out one command and returns when all its requests are answered. An error of a single request is an error.
func (p *Process) Do(command Command) (Reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line, err := json.Marshal(command)
	if err != nil {
		return Reply{}, fmt.Errorf("encoding a command to the writer: %w", err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return Reply{}, fmt.Errorf("sending a command to the writer: %w; it said: %s", err, p.errors)
	}
	reply, err := p.reply()
	if err != nil {
		return Reply{}, err
	}
	if reply.Failed > 0 {
		return reply, fmt.Errorf("%d of %d requests of the writer failed, one with: %s",
			reply.Failed, command.Count*len(command.Targets), reply.Error)
	}
	return reply, nil
}

func (p *Process) reply() (Reply, error) {
	var reply Reply
	line, err := p.replies.ReadBytes('\n')
	if err != nil {
		_ = p.cmd.Wait() // so that what it said is complete
		return reply, fmt.Errorf("the writer ended: %w; it said: %s", err, strings.TrimSpace(p.errors.String()))
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return reply, fmt.Errorf("reading the writer's answer: %w", err)
	}
	return reply, nil
}

// Stop ends the writer.
func (p *Process) Stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait() // what it was asked for is done; its end tells nothing new
}
