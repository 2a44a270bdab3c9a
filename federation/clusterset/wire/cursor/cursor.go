// Package cursor reads what is kept on disk and in objects: numbers of variable length (those of encoding/binary), and bytes
// with their length before them. What it reads may be damaged: it allocates for nothing that is not there.
package cursor

import (
	"encoding/binary"
	"fmt"
)

// Cursor is a place in bytes. After the first error it reads nothing but zeros.
type Cursor struct {
	rest []byte
	err  error
}

// New returns a cursor at the beginning of data. What it reads shares the memory.
func New(data []byte) Cursor { return Cursor{rest: data} }

// Fail notes an error, if it is the first one, and ends reading.
func (c *Cursor) Fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
	c.rest = nil
}

// Err returns the first error.
func (c *Cursor) Err() error { return c.err }

// End returns the first error, or that there is more than was read.
func (c *Cursor) End() error {
	if c.err == nil && len(c.rest) > 0 {
		c.Fail("%d bytes follow the end", len(c.rest))
	}
	return c.err
}

// Number reads a number without a sign.
func (c *Cursor) Number() uint64 {
	n, size := binary.Uvarint(c.rest)
	if size <= 0 {
		c.Fail("a number is cut short or too large")
		return 0
	}
	c.rest = c.rest[size:]
	return n
}

// Signed reads a number with a sign.
func (c *Cursor) Signed() int64 {
	n, size := binary.Varint(c.rest)
	if size <= 0 {
		c.Fail("a number is cut short or too large")
		return 0
	}
	c.rest = c.rest[size:]
	return n
}

// Count reads the length of a list whose elements have at least so many bytes each: a longer one than fits is a lie, and
// nothing is to be allocated for it.
func (c *Cursor) Count(least int) int {
	n := c.Number()
	if n > uint64(len(c.rest)/least) { //nolint:gosec // G115: lengths are not negative
		c.Fail("a list claims %d elements, and %d bytes are left", n, len(c.rest))
		return 0
	}
	return int(n) //nolint:gosec // G115: bounded above
}

// Bytes reads n bytes; nil when there are fewer.
func (c *Cursor) Bytes(n int) []byte {
	if n > len(c.rest) {
		c.Fail("%d bytes are wanted, and %d are left", n, len(c.rest))
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

// Block reads a length, and as many bytes; nil when there are fewer.
func (c *Cursor) Block() []byte {
	n := c.Number()
	if n > uint64(len(c.rest)) {
		c.Fail("%d bytes are wanted, and %d are left", n, len(c.rest))
		return nil
	}
	return c.Bytes(int(n)) //nolint:gosec // G115: bounded above
}
