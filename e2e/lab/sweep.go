package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// OwnName returns the name of a lab that belongs to this process: prefix and pid. Sweep finds it if the process is killed.
func OwnName(prefix string) string { return prefix + strconv.Itoa(os.Getpid()) }

// Sweep takes down the labs that processes named by OwnName with the same prefix and then ended without taking down.
func Sweep(ctx context.Context, prefix string) error {
	names, err := Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		suffix, ours := strings.CutPrefix(name, prefix)
		pid, err := strconv.Atoi(suffix)
		if !ours || err != nil {
			continue
		}
		if _, err := Identify(pid); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		left, err := New(Options{Name: name})
		if err != nil {
			return err
		}
		if _, err := left.Down(ctx); err != nil {
			return err
		}
	}
	return nil
}
