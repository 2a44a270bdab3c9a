package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	utilexec "k8s.io/utils/exec"

	"github.com/hansa-dev/hansa/e2e/node/process"
	"github.com/hansa-dev/hansa/e2e/node/sandbox"
)

// command is a command for the container with its environment and privileges.
func (in *instance) command(args []string, stdin, stdout, stderr *os.File, terminal bool) sandbox.Command {
	env := in.spec.Env
	if terminal {
		env = append(slices.Clip(env), "TERM=xterm")
	}
	return sandbox.Command{
		Args: args, Env: env, Dir: in.spec.Dir, Stdin: stdin, Stdout: stdout, Stderr: stderr, Terminal: terminal,
		Capabilities: in.spec.Capabilities,
	}
}

// running returns the instance of a container that runs.
func (a *Agent) running(namespace, name, container string) (*instance, error) {
	v, err := a.view(namespace, name, container)
	if err != nil {
		return nil, err
	}
	if v.current == nil {
		return nil, errdefs.NotFoundf("container %s of pod %s/%s is not running", container, namespace, name)
	}
	return v.current, nil
}

// view returns what is known about a container; the first one if it is not named.
func (a *Agent) view(namespace, name, container string) (view, error) {
	w := a.find(namespace, name)
	if w == nil {
		return view{}, errdefs.NotFoundf("pod %s/%s does not run on this node", namespace, name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.shown {
		if v.name == container || container == "" {
			return v, nil
		}
	}
	return view{}, errdefs.NotFoundf("pod %s/%s has no container %s", namespace, name, container)
}

// Exec runs a command in a container for `kubectl exec`.
func (a *Agent) Exec(ctx context.Context, namespace, name, container string, command []string, streams api.AttachIO) error {
	in, err := a.running(namespace, name, container)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return errdefs.InvalidInput("no command to run")
	}
	exit, err := a.exec(ctx, in, command, streams)
	if missing, ok := errors.AsType[*sandbox.StartError](err); ok {
		const notFound = 127
		exit.Code = notFound
		if w := streams.Stderr(); w != nil {
			fmt.Fprintln(w, missing.Message)
		} else if w := streams.Stdout(); w != nil {
			fmt.Fprint(w, missing.Message, "\r\n")
		}
	} else if err != nil {
		return err
	}
	if exit.Code != 0 {
		return utilexec.CodeExitError{Code: exit.Code, Err: fmt.Errorf("command terminated with exit code %d", exit.Code)}
	}
	return nil
}

func (a *Agent) exec(ctx context.Context, in *instance, command []string, streams api.AttachIO) (process.Exit, error) {
	if streams.TTY() {
		return a.execTerminal(ctx, in, command, streams)
	}
	return a.execPipes(ctx, in, command, streams)
}

// drainPatience is how long output is waited for after a command has ended: what it left running may hold the pipes.
const drainPatience = time.Second

func (a *Agent) execPipes(ctx context.Context, in *instance, command []string, streams api.AttachIO) (process.Exit, error) {
	ends, err := openPipes(streams)
	if err != nil {
		return process.Exit{}, err
	}
	defer ends.close()
	started, _, err := a.sandbox.Exec(in.process.PID, in.command(command, ends.child[0], ends.child[1], ends.child[2], false))
	ends.closeChild()
	if err != nil {
		return process.Exit{}, err
	}
	defer context.AfterFunc(ctx, func() { killGroup(started) })()
	if ends.stdin != nil {
		go func() {
			_, _ = io.Copy(ends.stdin, streams.Stdin())
			_ = ends.stdin.Close()
		}()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ends.drain(func() { killGroup(started) })
	}()
	exit := started.Exit()
	select {
	case <-done:
	case <-time.After(drainPatience):
	}
	return exit, nil
}

// pipes connect a command with the streams of a client.
type pipes struct {
	child [3]*os.File // the command's ends of stdin, stdout and stderr; nil if nobody is interested
	stdin *os.File
	out   []outPipe
}

type outPipe struct {
	from *os.File
	to   io.Writer
}

func openPipes(streams api.AttachIO) (*pipes, error) {
	p := &pipes{}
	if streams.Stdin() != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("connecting a command: %w", err)
		}
		p.child[0], p.stdin = r, w
	}
	for i, to := range []io.WriteCloser{streams.Stdout(), streams.Stderr()} {
		if to == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			p.closeChild()
			p.close()
			return nil, fmt.Errorf("connecting a command: %w", err)
		}
		p.child[i+1] = w
		p.out = append(p.out, outPipe{from: r, to: to})
	}
	return p, nil
}

// drain copies output until there is none any more. When the client has gone, hangUp is called.
func (p *pipes) drain(hangUp func()) {
	done := make(chan struct{}, len(p.out))
	for _, o := range p.out {
		go func() {
			defer func() { done <- struct{}{} }()
			if _, err := io.Copy(o.to, o.from); err != nil && !errors.Is(err, os.ErrClosed) {
				hangUp()
			}
		}()
	}
	for range p.out {
		<-done
	}
}

func (p *pipes) closeChild() {
	for _, f := range p.child {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (p *pipes) close() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	for _, o := range p.out {
		_ = o.from.Close()
	}
}

func (a *Agent) execTerminal(ctx context.Context, in *instance, command []string, streams api.AttachIO) (process.Exit, error) {
	started, terminal, err := a.sandbox.Exec(in.process.PID, in.command(command, nil, nil, nil, true))
	if err != nil {
		return process.Exit{}, err
	}
	defer func() { _ = terminal.Close() }()
	defer context.AfterFunc(ctx, func() { killGroup(started) })()
	go resize(terminal, streams.Resize(), started.Done())
	if streams.Stdin() != nil {
		go func() {
			if _, err := io.Copy(terminal, streams.Stdin()); err != nil {
				_ = started.SignalGroup(syscall.SIGHUP) // the client has gone
			}
		}()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if to := streams.Stdout(); to != nil {
			_, _ = io.Copy(to, terminal) // ends with an error when nobody has the terminal open any more
		}
	}()
	exit := started.Exit()
	select {
	case <-done:
	case <-time.After(drainPatience):
	}
	return exit, nil
}

// resize follows the size of the client's window. A size of nothing comes when the client has gone.
func resize(terminal *os.File, sizes <-chan api.TermSize, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case size := <-sizes:
			if size.Height == 0 && size.Width == 0 {
				return
			}
			_ = sandbox.Resize(terminal, size.Height, size.Width)
		}
	}
}

// killGroup ends a command that was run in a container, and what it started.
func killGroup(started *process.Started) { _ = started.SignalGroup(syscall.SIGKILL) }

// copyBounded copies what there is to read, and drops what is more than a bound.
func copyBounded(to io.Writer, from io.Reader, bound int64) {
	_, _ = io.CopyN(to, from, bound)
	_, _ = io.Copy(io.Discard, from)
}
