// Package connect finds a pod that takes a connection, quickly and whatever is broken: by racing.
//
//	Connect ─► first way ───────────────────► acknowledges: it has the connection
//	           no answer for a while ─► second way beside it: the first that acknowledges has it
//	           fails ─────────────────► next way, at once
//	           nothing is left ───────► an error, at once
//
// Nothing is sent before a way has acknowledged, so nothing can be lost or delivered twice; ways that did not win are
// reset. What goes with the request itself is the exception, and is sent on one way at a time.
//
// A Finder does so for one port of a service. It remembers which ways fail (package route decides what follows from that)
// and counts what happens.
package connect
