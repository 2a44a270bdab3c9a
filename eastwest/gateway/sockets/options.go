package sockets

import (
	"cmp"
	"io"
	"os"
	"time"

	"github.com/go-logr/logr"
)

// Options say what a Parent starts, and for how long it waits for what. A zero field has the default beside it.
type Options struct {
	Program string    // what workers run: this process's own program, as it is on disk by then
	Args    []string  // after its name: those of this process
	Env     []string  // KEY=VALUE, beside the environment of this process
	Output  io.Writer // standard output and error of workers: those of this process; a file is handed on as it is

	Start      time.Duration // until a worker is ready that is to replace another: 2 min
	Drain      time.Duration // until a worker has ended that should; then it is killed: 45 s
	Forget     time.Duration // until a socket is closed that the worker of the day did not ask for: 1 min
	Steady     time.Duration // a worker that lived as long is followed at once: 10 s
	Backoff    time.Duration // before the worker after one that did not, doubled each time; the first one does not wait: 100 ms
	MaxBackoff time.Duration // 5 s
	Look       time.Duration // between looks at the program on disk; negative: none: 10 s

	Log logr.Logger
}

func (o Options) orDefault() (Options, error) {
	var err error
	if o.Program == "" {
		o.Program, err = os.Executable()
	}
	if o.Args == nil {
		o.Args = os.Args[1:]
	}
	o.Start = cmp.Or(o.Start, 2*time.Minute)
	o.Drain = cmp.Or(o.Drain, 45*time.Second)
	o.Forget = cmp.Or(o.Forget, time.Minute)
	o.Steady = cmp.Or(o.Steady, 10*time.Second)
	o.Backoff = cmp.Or(o.Backoff, 100*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 5*time.Second)
	o.Look = cmp.Or(o.Look, 10*time.Second)
	return o, err
}
