// Package tunnel carries streams between the gateways of two clusters, over connections that are there before anybody needs
// them. A stream is what one client of a service says and hears: bytes both ways, or datagrams.
//
//	client ─► gateway ─ Dialer.Open ═══ tunnel: mTLS, many streams ═══ Server ─ Handler ─► pod
//	              │         │                                            │         │
//	              │         └── open: service, port ────────────────────►│         │ dials the pod
//	              │◄─────────── answer: yes, or no and why ──────────────┘◄────────┘
//	              └── from here on, every byte is the client's
//
// Open returns when a pod has taken the connection, so a client's bytes are only ever sent to somebody who is there. What
// was opened ends in one of two ways, which nobody can mistake for each other: with CloseWrite, after which the other side
// reads everything and then io.EOF, or with a reset, which is an error there. A tunnel that dies resets its streams: what
// was cut short never looks complete.
//
// A tunnel is a TLS 1.3 connection with ALPN "hansa-tunnel/1" in which both sides have proved to be gateways, and a
// session of yamux (github.com/hashicorp/yamux, its specification is spec.md there). Below yamux is a link: it reads along,
// and adds what yamux's Go API has no calls for, in yamux's own frames. That is resets, heartbeats of which none waits for
// the answer to another, and windows that grow to 16 MiB for streams that are quick and far, within a budget for all.
//
// Each side sends a heartbeat every 250 ms, whether the last was answered or not. A side that hears nothing for a second,
// no octet of any kind, declares the tunnel dead. Sending without an answer does not count against the other side: its
// answer may wait behind a lot of data on a slow line.
package tunnel
