package sockets

import "net"

// ParseRequest reads a request, and writes it again.
func ParseRequest(text string) (string, error) {
	r, err := parseRequest(text)
	return r.String(), err
}

// ParseAnswer reads an answer.
var ParseAnswer = parseAnswer

// NewKept is the worker's end of a connection.
func NewKept(conn *net.UnixConn) *Kept { return newKept(conn) }

// MaxMessage is the most octets of a message.
const MaxMessage = maxMessage

// MaxSockets is how many sockets a parent keeps.
const MaxSockets = maxSockets
