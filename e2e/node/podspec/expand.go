// Package podspec says what a Pod's spec means for its processes: environment, arguments, name resolution, image. It
// decides and does nothing else; what it needs to know from the cluster it is given.
package podspec

import "strings"

// Expand replaces references like $(NAME) by the values of variables, as Kubernetes does in commands, arguments and
// values of variables. "$$" stands for "$", so that "$$(NAME)" is the text "$(NAME)". References to variables that
// lookup does not know stay.
func Expand(text string, lookup func(name string) (string, bool)) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		switch name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")"); {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "(") && closed:
			value, known := lookup(name)
			if !known {
				value = "$(" + name + ")"
			}
			out.WriteString(value)
			text = rest
		default:
			out.WriteByte('$')
			text = after
		}
	}
}
