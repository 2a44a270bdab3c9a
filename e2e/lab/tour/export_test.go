package tour

import "io"

// What tests of this package need to see from outside.
var (
	Differences = differences
	Mismatch    = mismatch
	Propagation = propagation
)

// Indented writes parts through the writer for the output of programs.
func Indented(w io.Writer, parts ...string) error {
	i := &indented{w: w}
	for _, part := range parts {
		if _, err := io.WriteString(i, part); err != nil {
			return err
		}
	}
	i.finish()
	return nil
}
