package clusterset

import (
	"strings"
	"unique"
)

// Name is a string of which the process holds one copy: the names of nodes, zones and hosts repeat in every endpoint. Names
// compare with ==, and take 8 bytes. The zero value is the empty string.
type Name struct{ handle unique.Handle[string] }

// Intern returns the Name of s.
func Intern(s string) Name {
	if s == "" {
		return Name{}
	}
	return Name{unique.Make(s)}
}

// String returns the string.
func (n Name) String() string {
	if n == (Name{}) {
		return ""
	}
	return n.handle.Value()
}

// Compare orders names as strings are ordered.
func (n Name) Compare(other Name) int {
	if n == other {
		return 0
	}
	return strings.Compare(n.String(), other.String())
}

// Equal is == for those who compare by method.
func (n Name) Equal(other Name) bool { return n == other }

// MarshalText returns the string.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText interns text.
func (n *Name) UnmarshalText(text []byte) error {
	*n = Intern(string(text))
	return nil
}
