//go:build !race

package agent_test

// slowdown is what the race detector costs the program, which is not there.
const slowdown = 1
