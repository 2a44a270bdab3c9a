package inside

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// usualCapabilities are what container runtimes leave to the root of a container, without making device nodes.
var usualCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// capabilityNumbers are those that a container can have at all. They are about its own network and its own processes.
// All others are about the machine, and would be the machine's where root has started the lab: with SYS_ADMIN a
// container makes its view of the machine's files writable, with MKNOD it has the machine's disks.
var capabilityNumbers = map[string]uintptr{
	"AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER,
	"FSETID": unix.CAP_FSETID, "IPC_LOCK": unix.CAP_IPC_LOCK, "KILL": unix.CAP_KILL, "NET_ADMIN": unix.CAP_NET_ADMIN,
	"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_BROADCAST": unix.CAP_NET_BROADCAST, "NET_RAW": unix.CAP_NET_RAW,
	"SETFCAP": unix.CAP_SETFCAP, "SETGID": unix.CAP_SETGID, "SETPCAP": unix.CAP_SETPCAP, "SETUID": unix.CAP_SETUID,
	"SYS_CHROOT": unix.CAP_SYS_CHROOT, "SYS_NICE": unix.CAP_SYS_NICE,
}

// Grantable tells whether a container can be given a capability, whose name may begin with CAP_.
func Grantable(name string) bool {
	_, ok := capabilityNumbers[capabilityName(name)]
	return ok
}

func capabilityName(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// DropCapabilities takes from the calling thread, for what it executes from now on, all capabilities but the usual
// ones and those in keep that are Grantable.
func DropCapabilities(keep []string) error {
	var kept []uintptr
	for _, name := range slices.Concat(usualCapabilities, keep) {
		if number, ok := capabilityNumbers[capabilityName(name)]; ok {
			kept = append(kept, number)
		}
	}
	last, err := lastCapability()
	if err != nil {
		return err
	}
	// A process of root gets on execution what the bounding set leaves.
	for number := range last + 1 {
		if slices.Contains(kept, number) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil {
			return fmt.Errorf("dropping capability %d: %w", number, err)
		}
	}
	return nil
}

func lastCapability() (uintptr, error) {
	data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, fmt.Errorf("reading the number of capabilities: %w", err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 8)
	if err != nil {
		return 0, fmt.Errorf("reading the number of capabilities: %w", err)
	}
	return uintptr(number), nil
}
