// Command crdgen finishes the CustomResourceDefinitions that controller-gen writes from Go types, KubeFed's and Hansa's: it merges
// into each of them what the types cannot say (validation rules with their messages, defaults, printer columns, the
// status fields that are Hansa's own), as overlay.yaml declares it.
//
//	crdgen -in DIR -out DIR
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	in := flag.String("in", "", "directory with controller-gen's output")
	out := flag.String("out", "", "directory to write the finished definitions to")
	flag.Parse()
	if err := Generate(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "crdgen:", err)
		os.Exit(1)
	}
}
