package lab

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Memory is what all processes of the lab use together, in bytes: pages that several of them share, such as those of the
// programs, count once (the sum of PSS, as the kernel calls it).
func (l *Lab) Memory() int64 {
	var sum int64
	for _, p := range marked(l.dir) {
		sum += p.Share()
	}
	return sum
}

// Share is what the process takes of the machine's memory, in bytes: pages that it shares count in equal parts for those
// who share them (PSS, as the kernel calls it). It is 0 for a process that has ended.
func (p Process) Share() int64 {
	data, err := os.ReadFile(procFile(p.PID, "smaps_rollup"))
	if err != nil {
		return 0
	}
	return ParsePSS(data)
}

// ParsePSS reads a process's proportional share of memory, in bytes, from its smaps_rollup; 0 if it is not told.
func ParsePSS(rollup []byte) int64 {
	for lines := bufio.NewScanner(bytes.NewReader(rollup)); lines.Scan(); {
		value, ok := strings.CutPrefix(lines.Text(), "Pss:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}
