package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// confirm asks somebody to type a word before something is done that hurts. Who is not there, and does not say --yes, says no.
func (p *program) confirm(word, question string, args ...any) error {
	fmt.Fprintf(p.streams.ErrOut, question+"\n", args...)
	fmt.Fprintf(p.streams.ErrOut, "Type %s to go on: ", word)
	line, err := bufio.NewReader(p.streams.In).ReadString('\n')
	if strings.TrimSpace(line) == word {
		return nil
	}
	if err != nil {
		fmt.Fprintln(p.streams.ErrOut)
		return errors.New("nobody confirmed it, so nothing was done. Without somebody to ask, give --yes")
	}
	return fmt.Errorf("%q is not %q, so nothing was done", strings.TrimSpace(line), word)
}
