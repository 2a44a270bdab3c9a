package rig_test

import (
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/bench/rig"
)

func TestCPUTime(t *testing.T) {
	for name, test := range map[string]struct {
		reason string
		stat   string
		want   time.Duration
		fails  bool
	}{
		"Plain":       {"user and system time are added", "12 (hansa) S 1 12 12 0 -1 4194560 9 0 0 0 150 25 7 7 20 0 9 0 100", 1750 * time.Millisecond, false},
		"Parentheses": {"the name of a command may hold anything", "12 (a) b (c)) S 1 12 12 0 -1 4194560 9 0 0 0 1 1 7 7 20 0 9 0 100", 20 * time.Millisecond, false},
		"Short":       {"what is cut off is an error", "12 (hansa) S 1 12", 0, true},
		"NoNumber":    {"what is no number is an error", "12 (hansa) S 1 12 12 0 -1 4194560 9 0 0 0 x 25 7 7 20", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rig.CPUTime(test.stat)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("%s: CPUTime = %s, %v; want %s, error %t", test.reason, got, err, test.want, test.fails)
			}
		})
	}
}

func TestUsedTime(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
	const stat = "cpu  100 20 30 5000 600 4 6 700 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, want := rig.UsedTime(stat), 1600*time.Millisecond; got != want {
		t.Errorf("UsedTime = %s, want %s: idle, I/O wait and stolen time are not used, and guests are users", got, want)
	}
	if got := rig.UsedTime("cpu  1 x"); got != 0 {
		t.Errorf("UsedTime of garbage = %s, want 0", got)
	}
}
