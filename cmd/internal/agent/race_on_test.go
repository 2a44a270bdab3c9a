//go:build race

package agent_test

// slowdown is what the race detector costs the program.
const slowdown = 10
