package cursor_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/federation/clusterset/wire/cursor"
)

func TestCursor(t *testing.T) {
	whole := binary.AppendUvarint(nil, math.MaxUint64)
	whole = binary.AppendVarint(whole, math.MinInt64)
	whole = append(whole, 2, 7, 7)          // a list of two
	whole = append(whole, 3, 'a', 'b', 'c') // a block
	c := cursor.New(whole)
	if n := c.Number(); n != math.MaxUint64 {
		t.Errorf("read %d", n)
	}
	if n := c.Signed(); n != math.MinInt64 {
		t.Errorf("read %d", n)
	}
	if n := c.Count(1); n != 2 {
		t.Errorf("a list of two has %d", n)
	}
	if b := c.Bytes(2); string(b) != "\a\a" || cap(b) != 2 {
		t.Errorf("read %q with room for %d", b, cap(b))
	}
	if b := c.Block(); string(b) != "abc" {
		t.Errorf("read %q", b)
	}
	if err := c.End(); err != nil {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	for _, row := range []struct {
		why, data, want string
		read            func(*cursor.Cursor)
	}{
		{"nothing is there", "", "cut short", func(c *cursor.Cursor) { c.Number() }},
		{"the number goes on", "\x80", "cut short", func(c *cursor.Cursor) { c.Signed() }},
		{"it has more than 64 bits", strings.Repeat("\xff", 11), "too large", func(c *cursor.Cursor) { c.Number() }},
		{"a list longer than the data", "\x04abc", "claims 4 elements, and 3 bytes are left", func(c *cursor.Cursor) { c.Count(1) }},
		{"its elements are larger than what is there", "\x02abc", "claims 2 elements", func(c *cursor.Cursor) { c.Count(2) }},
		{"a block longer than the data", "\x04abc", "4 bytes are wanted, and 3 are left", func(c *cursor.Cursor) { c.Block() }},
		{"bytes that are not there", "a", "2 bytes are wanted", func(c *cursor.Cursor) { c.Bytes(2) }},
		{"more than was read", "ab", "1 bytes follow the end", func(c *cursor.Cursor) { c.Bytes(1) }},
		{"the first error stays", "a", "first", func(c *cursor.Cursor) { c.Fail("first"); c.Bytes(9) }},
	} {
		c := cursor.New([]byte(row.data))
		row.read(&c)
		if err := c.End(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.why, err, row.want)
		}
		if c.Number() != 0 || c.Signed() != 0 || c.Count(1) != 0 || c.Block() != nil {
			t.Errorf("%s: something is read after the error", row.why)
		}
	}
}
