// Package sockets keeps listening sockets over the death of the process that serves them.
//
// A Parent is small and does little, so it lives long. It opens the sockets, keeps a descriptor of each, and starts a
// worker: the same program, which does everything else. The worker asks for its sockets (Kept) and serves them.
//
//	what happens                     the parent                                   who connects meanwhile
//	a worker dies                    starts another, at once; later each time     waits in the kernel's queue, and is
//	                                 it lives for a moment only                   served by the next one
//	SIGHUP, or a changed program     starts another, and has the one before       is served by either
//	                                 drain once the new one is ready
//	the new one does not get ready   ends it, and leaves the one before           is served by the one before
//	SIGTERM                          closes its descriptors, has all drain        is refused
//	the parent dies                  –  (workers see it, and drain)               is refused
//
// After an upgrade the parent replaces itself, too (execve), and keeps descriptors and children. A socket that the worker
// of the day did not ask for within Options.Forget is closed.
//
// Parent and worker talk over a pair of sockets that the worker inherits: one message asks for an address, one answers,
// with the descriptor beside it (SCM_RIGHTS). Nothing secret goes over it, and nothing else can connect to it.
package sockets
