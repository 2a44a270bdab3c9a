// Package workload is the program that pods of the lab run: a test server, a client that loads servers and counts
// outcomes, a process that only waits to be ended, and one that waits for a server. It needs nothing but the network,
// starts in milliseconds and is one static file.
//
//	workload echo                  package echo: answers over HTTP, TCP, UDP and gRPC, and misbehaves when told to
//	workload load URL...           package load: requests at a constant rate, outcomes as JSON lines
//	workload pause                 package pause: sleeps until SIGTERM
//	workload wait URL|HOST:PORT    package load: returns when there is an answer
//
// This package holds the command line. What decides is apart from what acts: package fault says how the server
// misbehaves, package tally when requests are due and what their outcomes amount to, package answer what servers and
// clients tell each other.
//
// The exit status is 0 for success, also after SIGTERM, 1 if something failed, and 2 for a wrong command line.
package workload
