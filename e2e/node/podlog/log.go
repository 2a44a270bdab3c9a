// Package podlog keeps what containers print: a file for each instance of a container, in the format of Kubernetes'
// container runtime interface, with a line
//
//	2026-01-02T15:04:05.123456789Z stdout F text
//
// for each line of output. P instead of F marks a part of a line that goes on in the next one.
package podlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	timeFormat = "2006-01-02T15:04:05.000000000Z07:00"
	// maxLine bounds what is held of a line that does not end; longer ones are kept in parts.
	maxLine = 16 << 10
)

// Log is the log of a container that may still run.
type Log struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	file    *os.File
	changed chan struct{} // closed when there is more to read
	writers sync.WaitGroup
	ended   bool
}

// Create starts a log.
func Create(path string, now func() time.Time) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("starting a log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: that is its purpose
	if err != nil {
		return nil, fmt.Errorf("starting a log: %w", err)
	}
	return &Log{path: path, now: now, file: file, changed: make(chan struct{})}, nil
}

// Path is the file that the log is kept in.
func (l *Log) Path() string { return l.path }

// Collect adds to the log what comes from r, the output on a stream ("stdout" or "stderr"), and closes r at its end.
// It returns at once.
func (l *Log) Collect(stream string, r io.ReadCloser) {
	l.writers.Go(func() {
		defer func() { _ = r.Close() }()
		lines := bufio.NewReaderSize(r, maxLine)
		for {
			line, err := lines.ReadSlice('\n')
			if len(line) > 0 {
				l.add(stream, line)
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	})
}

// add appends a line or, if it does not end with a newline, a part of one.
func (l *Log) add(stream string, line []byte) {
	tag := "P"
	if line[len(line)-1] == '\n' {
		tag, line = "F", line[:len(line)-1]
	}
	entry := make([]byte, 0, len(timeFormat)+len(stream)+len(line)+4)
	entry = l.now().UTC().AppendFormat(entry, timeFormat)
	entry = append(entry, ' ')
	entry = append(entry, stream...)
	entry = append(entry, ' ')
	entry = append(entry, tag...)
	entry = append(entry, ' ')
	entry = append(entry, line...)
	entry = append(entry, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(entry); err != nil {
		return // the disk is full: the container is not to suffer from it
	}
	l.signal()
}

func (l *Log) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// End waits until all output has been collected, and ends the log. Output that somebody still holds open after
// patience is given up.
func (l *Log) End(patience time.Duration) {
	done := make(chan struct{})
	go func() {
		l.writers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.signal()
	_ = l.file.Close()
}

// more returns a channel that is closed when there is more to read, and whether there never will be.
func (l *Log) more() (<-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.ended
}
