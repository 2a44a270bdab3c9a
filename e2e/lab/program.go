package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// ErrRunning means that a program of that name runs already.
var ErrRunning = errors.New("already running")

// Program is a program that runs beside the clusters as a part of the lab: Down ends it too.
type Program struct {
	record

	Name string
}

// StartProgram starts a program in the background, with its output in a log file. Its environment is the caller's,
// with KUBECONFIG naming the lab's kubeconfig, and env (KEY=VALUE) on top. Its working directory is the caller's.
// The error is ErrRunning if a program of that name is running.
func (l *Lab) StartProgram(ctx context.Context, name string, command, env []string) (Program, error) {
	return l.startProgram(ctx, name, "", command, env)
}

// StartInside is StartProgram for a program in the network of a cluster or of a node; see Inside.
func (l *Lab) StartInside(ctx context.Context, name, where string, command, env []string) (Program, error) {
	return l.startProgram(ctx, name, where, command, env)
}

func (l *Lab) startProgram(ctx context.Context, name, where string, command, env []string) (Program, error) {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return Program{}, fmt.Errorf("program name %q: %s", name, strings.Join(problems, "; "))
	}
	if len(command) == 0 {
		return Program{}, fmt.Errorf("program %s: no command given", name)
	}
	unlock, err := l.lockExisting(ctx)
	if err != nil {
		return Program{}, err
	}
	defer unlock()
	r, err := readRecord(l.programRecord(name))
	if err != nil {
		return Program{}, err
	}
	if r.Activity() != Gone {
		return Program{record: r, Name: name}, fmt.Errorf("program %s: %w as process %d", name, ErrRunning, r.PID)
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return Program{}, fmt.Errorf("starting program %s: %w", name, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return Program{}, fmt.Errorf("starting program %s: %w", name, err)
	}
	log := l.programLog(name)
	if err := rotate(log); err != nil {
		return Program{}, err
	}
	full, environ := append([]string{path}, command[1:]...), append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
	if where != "" {
		if full, err = l.Inside(ctx, where, full...); err != nil {
			return Program{}, err
		}
		environ = l.InsideEnv(os.Environ())
	}
	ch, err := start(launch{
		record:  l.programRecord(name),
		log:     log,
		command: full,
		env:     append(environ, env...),
	})
	if err != nil {
		return Program{}, err
	}
	return Program{record: ch.record, Name: name}, nil
}

// StopProgram ends a program with SIGTERM, or SIGKILL if that does not help, and waits until it and all processes
// that it started are gone. A program that has ended already is no error.
func (l *Lab) StopProgram(ctx context.Context, name string) error {
	return l.onTarget(ctx, programPrefix+name, func(processes []Process) error {
		return end(ctx, processes, programGrace)
	})
}

// Programs lists the programs ever started in the lab, sorted by name.
func (l *Lab) Programs() ([]Program, error) {
	if _, err := l.manifest(); err != nil {
		return nil, err
	}
	return l.programs()
}

func (l *Lab) programs() ([]Program, error) {
	names, err := l.programNames()
	if err != nil {
		return nil, err
	}
	var programs []Program
	for _, name := range names {
		r, err := readRecord(l.programRecord(name))
		if err != nil {
			return nil, err
		}
		programs = append(programs, Program{record: r, Name: name})
	}
	return programs, nil
}

func (l *Lab) programNames() ([]string, error) {
	paths, err := filepath.Glob(l.programRecord("*"))
	if err != nil {
		return nil, fmt.Errorf("listing the programs of lab %s: %w", l.opts.Name, err)
	}
	var names []string
	for _, path := range paths { // Glob sorts
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return names, nil
}

// programProcesses are the living processes of a program and its descendants.
func (l *Lab) programProcesses(name string) ([]Process, error) {
	r, err := readRecord(l.programRecord(name))
	if err != nil {
		return nil, err
	}
	if r.PID == 0 {
		names, err := l.programNames()
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("program %q of lab %s: %w; it has %s", name, l.opts.Name, ErrNotFound, orNone(names))
	}
	found := marked(l.programRecord(name))
	if len(found) == 0 && r.Activity() != Gone {
		found = append(found, r.Process)
	}
	return found, nil
}

func (l *Lab) programLog(name string) string {
	return filepath.Join(l.dir, "programs", name+".log")
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Output returns the last lines that the program wrote, to be shown when it does not do what it should.
func (p Program) Output() string { return cause(p.Log) }
