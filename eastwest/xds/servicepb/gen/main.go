// The program gen compiles service.proto to Go. It needs neither protoc nor a plugin.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// source names the file from the root of the repository, and in the registry of all files of a program.
const source = "eastwest/xds/servicepb/service.proto"

func main() {
	if err := generate(filepath.Join("..", "..", "..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(root string) error {
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
	for _, file := range plugin.Response().File {
		path := filepath.Join(root, filepath.Dir(source), "zz_generated.service.pb.go")
		if err := os.WriteFile(path, withoutInit(file.GetContent()), 0o644); err != nil { //nolint:gosec // source code
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
