// Shim is the first process of a container in the lab, until it becomes the container's command; and, as `shim
// supervise COMMAND`, the parent of a node. The lab's node starts it; it is of no use by hand.
package main

import (
	"fmt"
	"os"

	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
	"github.com/hansa-dev/hansa/e2e/node/supervise"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == supervise.Word {
		code, err := supervise.Run(os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			code = 1
		}
		os.Exit(code)
	}
	if inside.Run() != nil { // whoever started it has been told why
		os.Exit(128)
	}
}
