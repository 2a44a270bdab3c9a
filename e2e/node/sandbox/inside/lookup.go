package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// DefaultPath is where commands are looked for in a container that does not say.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/lab"

// Lookup finds the file of a command in the calling thread's root, by the PATH in env. The errors are worded as
// container runtimes word them.
func Lookup(command string, env []string) (string, error) {
	if command == "" {
		return "", errors.New("no command specified")
	}
	if strings.Contains(command, "/") {
		if err := executable(command); err != nil {
			return "", fmt.Errorf("exec: %q: %w", command, err)
		}
		return command, nil
	}
	path := DefaultPath
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := filepath.Join(dir, command)
		if executable(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", command)
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "exec", Path: file, Err: syscall.EISDIR}
	case info.Mode().Perm()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}
