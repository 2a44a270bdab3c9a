package hansa_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hansa-dev/hansa"

// room is a tree of packages with a place in the house. The innermost room that holds a package is the package's.
type room struct {
	path  string
	floor int
	pure  bool // decides only: no I/O, no clock, no client
}

// rooms lists every tree with Go code. A package imports its own room and rooms on lower floors, nothing else of ours.
var rooms = []room{
	{path: "config", floor: 0},
	{path: "federation/api", floor: 0},

	{path: "placement", floor: 1, pure: true},
	{path: "overrides", floor: 1, pure: true},
	{path: "federation/status", floor: 1, pure: true},
	{path: "federation/clusterset", floor: 1, pure: true},
	{path: "federation/servicepolicy", floor: 2, pure: true}, // says things about the table above
	{path: "eastwest/gateway/hello", floor: 1, pure: true},
	{path: "eastwest/gateway/route", floor: 2, pure: true}, // who may take a connection, in the table's order
	{path: "eastwest/health", floor: 2, pure: true},        // one verdict from many observers
	{path: "dns/zone", floor: 2, pure: true},               // what the table above says in names and records
	{path: "e2e/lab/wan/link", floor: 1, pure: true},
	{path: "federation/sync/plan", floor: 2, pure: true}, // puts the three above together

	{path: "federation/cluster", floor: 3},
	{path: "eastwest/identity", floor: 3},
	{path: "e2e/lab", floor: 3}, // a library: it knows clusters, and nothing of the hub
	{path: "federation/sync", floor: 4},
	{path: "federation/exports", floor: 4},
	{path: "dns/listen", floor: 4}, // sockets: it knows nothing of names
	{path: "federation/imports", floor: 5},
	{path: "dns", floor: 5},
	{path: "eastwest/xds", floor: 5},
	{path: "eastwest/enrolment", floor: 5},
	{path: "federation/typeconfig", floor: 5},
	{path: "dns/endpoints", floor: 6},
	{path: "eastwest/feed", floor: 6}, // the other end of xds
	{path: "eastwest/agents", floor: 6},
	{path: "eastwest/gateway", floor: 6},
	{path: "federation/join", floor: 6}, // grants what the default types of typeconfig need

	{path: "cmd/internal/dns", floor: 6},
	{path: "cmd/internal/agent", floor: 7},
	{path: "cmd/internal/cli", floor: 7},
	{path: "cmd/internal/hub", floor: 7},
	{path: "cmd/internal/lab", floor: 7},

	{path: "cmd", floor: 8},
	{path: "e2e", floor: 8},
	{path: "config/crdgen", floor: 8},
}

// outside are the imports that a pure room must not have, each with everything below it.
var outside = []string{
	"net", "os", "io/fs", "syscall", "log",
	"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/multicluster-runtime",
}

// values is below net and does nothing but addresses as values.
const values = "net/netip"

// ticking are the functions of package time that ask the clock.
var ticking = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

const mainLines = 60

// source is one parsed Go file that is not a test.
type source struct {
	name string // slash-separated, from the root of the module
	file *ast.File
	size int // lines
}

func TestImportsPointDown(t *testing.T) {
	for _, src := range sources(t) {
		from, ok := roomOf(path.Dir(src.name))
		if !ok {
			t.Errorf("%s has no room: give its tree a floor in arch_test.go and ARCHITECTURE.md", src.name)
			continue
		}
		for _, imported := range imports(src.file) {
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if target, ok := roomOf(to); !ok || target != from && target.floor >= from.floor {
				t.Errorf("%s (floor %d) imports %s, which is not on a lower floor", src.name, from.floor, to)
			}
		}
	}
}

func TestPureRooms(t *testing.T) {
	for _, src := range sources(t) {
		if r, _ := roomOf(path.Dir(src.name)); !r.pure {
			continue
		}
		for _, imported := range imports(src.file) {
			if imported != values && slices.ContainsFunc(outside, func(tree string) bool { return within(imported, tree) }) {
				t.Errorf("%s is in a pure room and must not import %s: take the value as an argument", src.name, imported)
			}
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(ticking, sel.Sel.Name) {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s is in a pure room and must not call time.%s: take the time as an argument", src.name, sel.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestConventions(t *testing.T) {
	documented := map[string]bool{}
	for _, src := range sources(t) {
		dir := path.Dir(src.name)
		documented[dir] = documented[dir] || src.file.Doc != nil
		if path.Base(src.name) == "main.go" && within(dir, "cmd") && src.size > mainLines {
			t.Errorf("%s has %d lines, more than %d: a main only wires", src.name, src.size, mainLines)
		}
		for _, decl := range src.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: make what it does a call of somebody's", src.name)
			}
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// TestRoomsAreDescribed keeps ARCHITECTURE.md and the table above in step.
func TestRoomsAreDescribed(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		if !bytes.Contains(page, []byte("`"+r.path+"`")) {
			t.Errorf("ARCHITECTURE.md does not describe `%s`", r.path)
		}
	}
}

// sources parses every Go file of this module that is not a test. It reads the files itself, so that the test cache
// knows about them.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return enter(name)
		case path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = append(found, source{name, file, bytes.Count(text, []byte("\n"))})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// enter keeps the walk out of folders that the go command ignores and of modules of their own.
func enter(dir string) error {
	if dir == "." {
		return nil
	}
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" {
		return fs.SkipDir
	}
	if _, err := os.Stat(path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func imports(file *ast.File) []string {
	paths := make([]string, 0, len(file.Imports))
	for _, spec := range file.Imports {
		unquoted, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, unquoted)
		}
	}
	return paths
}

// roomOf returns the innermost room that holds the package directory dir.
func roomOf(dir string) (room, bool) {
	var best room
	for _, r := range rooms {
		if within(dir, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// within tells whether name is tree or lies below it.
func within(name, tree string) bool {
	return name == tree || strings.HasPrefix(name, tree+"/")
}
