package sockets

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// worker is a process that serves sockets.
type worker struct {
	number  uint64
	process *os.Process
	conn    *net.UnixConn
	started time.Time
	ready   bool
}

// ending is how a process ended.
type ending struct {
	code   int // -1: by a signal, or it is not known
	reason string
}

// start starts a worker.
func (p *Parent) start() (*worker, error) {
	p.number++
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("making a way to a worker: %w", err)
	}
	own, theirs := os.NewFile(uintptr(ends[0]), "worker"), os.NewFile(uintptr(ends[1]), "parent")
	defer func() { _ = theirs.Close() }()
	conn, err := pairEnd(own)
	if err != nil {
		return nil, err
	}
	command := exec.Command(p.options.Program, p.options.Args...) //nolint:gosec,noctx // G204: this very program; it ends by an order
	command.ExtraFiles = []*os.File{theirs}
	command.Env = append(append(os.Environ(), p.options.Env...), workerVariable+"=3")
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if p.options.Output != nil {
		command.Stdout, command.Stderr = p.options.Output, p.options.Output
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what a terminal sends is for the parent alone
	if err := command.Start(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("starting a worker: %w", err)
	}
	w := &worker{number: p.number, process: command.Process, conn: conn, started: time.Now()}
	p.follow(w, func() ending {
		_ = command.Wait()
		return endingOf(command.ProcessState)
	})
	p.options.Log.Info("Started a worker", "worker", w.number, "process", w.process.Pid)
	return w, nil
}

func endingOf(state *os.ProcessState) ending {
	if state == nil {
		return ending{-1, "not known how"}
	}
	return ending{state.ExitCode(), state.String()}
}

// follow serves a worker, and notes its end.
func (p *Parent) follow(w *worker, wait func() ending) {
	p.workers[w] = working
	p.serve(w)
	go func() {
		end := wait()
		p.post(func() { p.workerEnded(w, end) })
	}()
}

// serve answers what a worker asks, until it ends or the parent is about to be replaced.
func (p *Parent) serve(w *worker) {
	p.serving.Go(func() {
		for {
			text, fd, err := receive(w.conn)
			discard(fd)
			if err != nil {
				return // it has ended, or this process is to be replaced
			}
			if err := p.answer(w, text); err != nil {
				p.options.Log.Error(err, "A worker is not served any more; it is killed", "worker", w.number)
				_ = w.process.Kill()
				return
			}
		}
	})
}

// answer answers a request.
func (p *Parent) answer(w *worker, text string) error {
	r, err := parseRequest(text)
	if err != nil {
		return err
	}
	switch r.verb {
	case verbReady:
		p.post(func() { p.workerReady(w) })
		return nil
	case verbRelease:
		p.holder.release(r.key.addr)
		return nil
	}
	fd, addr, err := p.holder.take(r.key, w.number)
	if err != nil {
		return w.say(answerError(err), -1)
	}
	defer discard(fd)
	return w.say(verbOK+" "+addr.String(), fd)
}

// say sends a message, with a descriptor unless that is -1. A worker that does not read is not waited for for long.
func (w *worker) say(text string, fd int) error {
	var beside []byte
	if fd >= 0 {
		beside = unix.UnixRights(fd)
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return fmt.Errorf("answering a worker: %w", err)
	}
	if _, _, err := w.conn.WriteMsgUnix([]byte(text), beside, nil); err != nil {
		return fmt.Errorf("answering a worker: %w", err)
	}
	return nil
}
