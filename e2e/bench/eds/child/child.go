// Package child runs parts of a benchmark in processes of their own, so that what measures does not use the processor
// time and the memory of what is measured, and is itself measured apart.
//
// A child is the benchmark's own program with other arguments. Commands go to it as JSON, one per line, and each is
// answered by a line of JSON.
package child

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// endPatience is how long a child may take to end once nobody talks to it any more.
const endPatience = 5 * time.Second

// Process is a child. Its methods are for one goroutine.
type Process struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *bufio.Reader
	said    *bytes.Buffer
}

// Start runs the benchmark's own program with the argument name, and others. The caller stops it.
func Start(ctx context.Context, name string, args ...string) (*Process, error) {
	return StartBy(ctx, Way{}, name, args...)
}

// Way is how a child is started.
type Way struct {
	// Wrap is a command before the child's own: nsenter, for example.
	Wrap []string
	// Attr are of the process, Wrap's if there is one.
	Attr *syscall.SysProcAttr
}

// StartBy is Start by another way.
func StartBy(ctx context.Context, way Way, name string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the benchmark's own program: %w", err)
	}
	p := &Process{name: name, said: &bytes.Buffer{}}
	command := slices.Concat(way.Wrap, []string{self, name}, args)
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // G204: our own program
	p.cmd.SysProcAttr = way.Attr
	p.cmd.Stderr = p.said
	p.cmd.WaitDelay = endPatience
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.replies = bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// PID is the process id of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// answer is what a child says to a command.
type answer struct {
	Reply json.RawMessage `json:"reply,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Call has the child carry out a command and decodes its answer into reply, unless that is nil.
func (p *Process) Call(command, reply any) error {
	line, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("encoding a command to %s: %w", p.name, err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("sending a command to %s: %w; it said: %s", p.name, err, p.said)
	}
	line, err = p.replies.ReadBytes('\n')
	if err != nil {
		_ = p.cmd.Wait() // so that what it said is complete
		return fmt.Errorf("%s ended: %w; it said: %s", p.name, err, strings.TrimSpace(p.said.String()))
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", p.name, err)
	}
	if a.Error != "" {
		return fmt.Errorf("%s: %s", p.name, a.Error)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(a.Reply, reply); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", p.name, err)
	}
	return nil
}

// Stop ends the child.
func (p *Process) Stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait() // what it was asked for is done; its end tells nothing new
}

// Serve is the other side: it has handle carry out the commands of type C that come from in, one after the other, until
// in ends. An error of handle is told to the caller and ends nothing.
func Serve[C, R any](ctx context.Context, in io.Reader, out io.Writer, handle func(context.Context, C) (R, error)) error {
	commands, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var command C
		err := commands.Decode(&command)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		var a answer
		reply, err := handle(ctx, command)
		if err != nil {
			a.Error = err.Error()
		} else if a.Reply, err = json.Marshal(reply); err != nil {
			return fmt.Errorf("encoding an answer: %w", err)
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("writing an answer: %w", err)
		}
	}
}
