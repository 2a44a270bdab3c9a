package network

import "os"

// Namespace is a network namespace for tests.
type Namespace = namespace

// Ways to make, enter and let go of namespaces, for tests.
var (
	NewNamespace = newNamespace
	Enter        = namespace.enter
	Close        = namespace.close
	FD           = namespace.fd
	Up           = up
)

// NamespaceOf is the namespace that a file belongs to.
func NamespaceOf(file *os.File) Namespace { return namespace{file: file} }
