// Package route says by which ways a connection for a service may go from a gateway, and in which order.
//
// It is pure. For turns the service table's view into candidates by priority; Next chooses a way among them, one after the
// other for one connection; Ejections remember which ways have failed, and for how long they are left out; a Budget bounds
// how many second ways are tried. Time and chance are arguments.
//
//	snapshot ─► For ─► candidates ─┐
//	                               ├─► Next ─► a way ─► it connects, fails, or loses against another
//	Ejections: who is left out ────┘                         │
//	      ▲                                                  │
//	      └──────────────────────────────────────────────────┘
package route
