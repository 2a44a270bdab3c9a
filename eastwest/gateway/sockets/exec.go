package sockets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keptVariable names the descriptor of what a parent keeps, in the environment of the parent that replaces it.
const keptVariable = "HANSA_GATEWAY_KEPT"

// maxKept is the most octets that are read of it: some hundred for each socket.
const maxKept = 16 << 20

// estate is what a parent leaves to the one that replaces it in the same process.
type estate struct {
	Number  uint64       `json:"number"`
	Sockets []keptSocket `json:"sockets"`
	Workers []keptWorker `json:"workers"`
}

type keptSocket struct {
	Network   string         `json:"network"`
	Requested netip.AddrPort `json:"requested"`
	Addr      netip.AddrPort `json:"addr"`
	FD        int            `json:"fd"`
	Asked     uint64         `json:"asked"`
}

type keptWorker struct {
	Number   uint64    `json:"number"`
	PID      int       `json:"pid"`
	FD       int       `json:"fd"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Current  bool      `json:"current"`
	Retiring bool      `json:"retiring"`
}

// replace replaces this process by the program on disk, with descriptors and children. It returns only if that fails.
func (p *Parent) replace() {
	p.options.Log.Info("Replacing the parent, too", "program", p.options.Program, "sockets", p.holder.count())
	pending := p.pause()
	err := p.exec()
	p.options.Log.Error(err, "The parent goes on as it is")
	signal.Notify(p.hangUp, syscall.SIGHUP)
	for w := range p.workers {
		_ = w.conn.SetReadDeadline(time.Time{})
		p.serve(w)
	}
	for _, event := range pending {
		event()
	}
}

// pause stops serving workers: what they ask from now on waits in the pair's buffer for who comes next. It returns the
// events that came meanwhile.
func (p *Parent) pause() (pending []func()) {
	for w := range p.workers {
		_ = w.conn.SetReadDeadline(time.Unix(1, 0))
	}
	paused := make(chan struct{})
	go func() {
		p.serving.Wait()
		close(paused)
	}()
	for {
		select {
		case event := <-p.events:
			pending = append(pending, event)
		case <-paused:
			return pending
		}
	}
}

// exec hands over what there is. It returns only with an error.
func (p *Parent) exec() error {
	left, err := p.leave()
	defer func() {
		for _, w := range left.Workers {
			discard(w.FD)
		}
	}()
	if err != nil {
		return err
	}
	file, err := left.write()
	if err != nil {
		return err
	}
	defer discard(file)
	fds := []int{file}
	for _, s := range left.Sockets {
		fds = append(fds, s.FD)
	}
	for _, w := range left.Workers {
		fds = append(fds, w.FD)
	}
	signal.Ignore(syscall.SIGHUP) // or one that comes before the new program listens to it would end it
	syscall.ForkLock.Lock()       // no worker may inherit these
	defer syscall.ForkLock.Unlock()
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("handing over a descriptor: %w", err)
		}
	}
	environ := append(os.Environ(), keptVariable+"="+strconv.Itoa(file))
	err = syscall.Exec(p.options.Program, os.Args, environ) //nolint:gosec // G204: it is this program, only newer
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fmt.Errorf("replacing this process by %s: %w", p.options.Program, err)
}

// leave writes down what there is.
func (p *Parent) leave() (estate, error) {
	left := estate{Number: p.number}
	for k, s := range p.holder.sockets {
		left.Sockets = append(left.Sockets, keptSocket{k.network, k.addr, s.addr, s.fd, s.asked})
	}
	for w, s := range p.workers {
		fd, err := descriptor(w.conn)
		if err != nil {
			return left, err
		}
		left.Workers = append(left.Workers, keptWorker{w.number, w.process.Pid, fd, w.started, w.ready, w == p.current, s == retiring})
	}
	return left, nil
}

// write writes an estate into a file in memory.
func (e estate) write() (int, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return -1, fmt.Errorf("writing down what is kept: %w", err)
	}
	fd, err := unix.MemfdCreate("hansa-kept", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("writing down what is kept: %w", err)
	}
	for rest := text; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			discard(fd)
			return -1, fmt.Errorf("writing down what is kept: %w", err)
		}
		rest = rest[n:]
	}
	_, err = unix.Seek(fd, 0, io.SeekStart)
	return fd, err
}

// readEstate reads what the parent before left, if there was one.
func readEstate() (left estate, err error) {
	text, given := os.LookupEnv(keptVariable)
	if !given {
		return left, nil
	}
	if err := os.Unsetenv(keptVariable); err != nil {
		return left, fmt.Errorf("reading %s: %w", keptVariable, err)
	}
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return left, fmt.Errorf("reading %s: %w", keptVariable, err)
	}
	file := os.NewFile(uintptr(fd), "kept")
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := json.NewDecoder(io.LimitReader(file, maxKept)).Decode(&left); err != nil {
		return left, fmt.Errorf("reading what the parent before kept: %w", err)
	}
	return left, nil
}

// resume takes over what the parent before left in this process.
func (p *Parent) resume() error {
	left, err := readEstate()
	if err != nil {
		return err
	}
	p.number = left.Number
	for _, s := range left.Sockets {
		unix.CloseOnExec(s.FD)
		p.holder.sockets[key{s.Network, s.Requested}] = &kept{fd: s.FD, addr: s.Addr, asked: s.Asked}
	}
	for _, w := range left.Workers {
		if err := p.adopt(w); err != nil {
			return err
		}
	}
	if p.current != nil {
		p.expect(p.current.number)
	}
	return nil
}

// adopt takes over a worker.
func (p *Parent) adopt(k keptWorker) error {
	unix.CloseOnExec(k.FD)
	conn, err := pairEnd(os.NewFile(uintptr(k.FD), "worker"))
	if err != nil {
		return err
	}
	process, err := os.FindProcess(k.PID)
	if err != nil {
		return fmt.Errorf("finding worker %d, process %d: %w", k.Number, k.PID, err)
	}
	w := &worker{number: k.Number, process: process, conn: conn, started: k.Started, ready: k.Ready}
	p.served = p.served || k.Ready
	if k.Current {
		p.current = w
	}
	p.follow(w, func() ending {
		state, _ := process.Wait() // there is nothing to wait for when it ended just before
		return endingOf(state)
	})
	if k.Retiring {
		p.workers[w] = retiring
		p.after(p.options.Drain, func() {
			if _, lives := p.workers[w]; lives {
				_ = w.process.Kill()
			}
		})
	}
	return nil
}
