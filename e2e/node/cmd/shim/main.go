// Shim is the first process of a container in the lab, until it becomes the container's command. The lab's node starts
// it; it is of no use by hand.
package main

import (
	"os"

	"github.com/hansa-dev/hansa/e2e/node/sandbox/inside"
)

func main() {
	if inside.Run() != nil { // whoever started it has been told why
		os.Exit(128)
	}
}
