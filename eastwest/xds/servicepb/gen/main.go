// The program gen compiles the .proto files below eastwest to Go. It needs neither protoc nor a plugin. Services are not
// in what it makes: they are few, and written by hand beside it.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// tree is where the files are, from the root of the repository.
const tree = "eastwest"

// extension of the files.
const extension = ".proto"

func main() {
	if err := generateAll(filepath.Join("..", "..", "..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generateAll(root string) error {
	return fs.WalkDir(os.DirFS(root), tree, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != extension {
			return err
		}
		return generate(root, name)
	})
}

// generate compiles one file. source names it from the root of the repository, and in the registry of all files of a
// program.
func generate(root, source string) error {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{root}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), source)
	if err != nil {
		return fmt.Errorf("compiling %s: %w", source, err)
	}
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{source},
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
	})
	if err != nil {
		return fmt.Errorf("reading the descriptor of %s: %w", source, err)
	}
	for _, file := range plugin.Files {
		internal_gengo.GenerateFile(plugin, file)
	}
	name := "zz_generated." + strings.TrimSuffix(path.Base(source), extension) + ".pb.go"
	for _, file := range plugin.Response().File {
		target := filepath.Join(root, filepath.FromSlash(path.Dir(source)), name)
		if err := os.WriteFile(target, withoutInit(file.GetContent()), 0o644); err != nil { //nolint:gosec // source code
			return fmt.Errorf("writing the generated code: %w", err)
		}
	}
	return nil
}

var initFunc = regexp.MustCompile(`(?m)^func init\(\) \{ (\w+)\(\) \}$`)

// withoutInit has a variable do what an init function does, since there are none in this repository.
func withoutInit(code string) []byte {
	return initFunc.ReplaceAll([]byte(code), []byte("var _ = func() bool {\n\t$1()\n\treturn true\n}()\n"))
}
