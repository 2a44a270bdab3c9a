package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPoll is how often a waiter asks for the lock; flock itself cannot be interrupted by a context.
const lockPoll = 50 * time.Millisecond

// lockDir takes the exclusive lock of a folder, which it creates if need be, and returns the function that lets it
// go. The lock is on the folder itself: it ends with its holder, however that ends, and removing the folder leaves no
// lock file. waiting is called once if somebody else holds the lock.
func lockDir(ctx context.Context, dir string, waiting func()) (unlock func(), err error) {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for told := false; ; {
		f, err := tryLockDir(dir)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() { _ = f.Close() }, nil // closing is unlocking
		}
		if !told && waiting != nil {
			waiting()
		}
		told = true
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock of %s: %w", dir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// tryLockDir returns the open and locked folder, or nil if it cannot be had at this moment.
func tryLockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil && !missing(err) { // a parent may vanish under us: then try again
		return nil, err
	}
	f, err := os.Open(dir) //nolint:gosec // G304: a folder of the lab or the cache
	if missing(err) {
		return nil, nil //nolint:nilnil // nil without an error is "not now", as documented
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && sameOpen(f, dir) {
		return f, nil
	}
	_ = f.Close()
	if err == nil || errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, nil //nolint:nilnil // as above; without an error the folder was replaced before it was locked
	}
	return nil, fmt.Errorf("locking %s: %w", dir, err)
}

// sameOpen tells whether path still names the open file.
func sameOpen(f *os.File, path string) bool {
	x, err := f.Stat()
	if err != nil {
		return false
	}
	y, err := os.Stat(path)
	return err == nil && os.SameFile(x, y)
}
