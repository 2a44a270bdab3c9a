package failover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hansa-dev/hansa/e2e/lab"
)

// killChild kills the worker of the gateway on a member's first node: of the agent's two processes the one whose parent is the
// other.
func killChild(ctx context.Context, s *Story, member string) error {
	cmd, out, err := s.inside(ctx, member, "readlink", "/proc/self/ns/net")
	if err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("looking for the network of %s: %w: %s", member, err, out)
	}
	agents, err := agentsIn(strings.TrimSpace(out.String()))
	if err != nil {
		return err
	}
	for pid, parent := range agents {
		if _, child := agents[parent]; !child {
			continue
		}
		process, err := lab.Identify(pid)
		if err != nil {
			return err
		}
		return process.Signal(syscall.SIGKILL)
	}
	return fmt.Errorf("no worker of an agent runs in %s, of %d processes", member, len(agents))
}

// agentsIn returns the processes of agents in a network namespace, with their parents.
func agentsIn(space string) (map[int]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	found := map[int]int{}
	for _, dir := range names {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if net, err := os.Readlink(dir + "/ns/net"); err != nil || net != space {
			continue // another's, or it has ended
		}
		command, err := os.ReadFile(dir + "/cmdline") //nolint:gosec // G304: of the kernel
		if err != nil || !isAgent(command) {
			continue
		}
		stat, err := os.ReadFile(dir + "/stat") //nolint:gosec // G304: of the kernel
		if err != nil {
			continue
		}
		if s, err := lab.ParseStat(string(stat)); err == nil {
			found[pid] = s.Parent
		}
	}
	return found, nil
}

// isAgent reads a command line, whose words end with zero bytes.
func isAgent(command []byte) bool {
	words := strings.Split(string(command), "\x00")
	return len(words) > 1 && filepath.Base(words[0]) == "hansa" && words[1] == "agent"
}
