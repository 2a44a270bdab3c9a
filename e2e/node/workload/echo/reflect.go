package echo

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// protoFile is the name of the file that would describe the service, if there were one.
const protoFile = "hansa/workload/v1/echo.proto"

const structType = ".google.protobuf.Struct"

// reflect registers gRPC's reflection service, so that tools can list and call the methods.
func reflect(server *grpc.Server) error {
	method := func(name string, stream bool) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: new(name), InputType: new(structType), OutputType: new(structType),
			ClientStreaming: new(stream), ServerStreaming: new(stream),
		}
	}
	pkg, name := protoreflect.FullName(answer.Service).Parent(), protoreflect.FullName(answer.Service).Name()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new(protoFile), Package: new(string(pkg)), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/struct.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:   new(string(name)),
			Method: []*descriptorpb.MethodDescriptorProto{method("Echo", false), method("Stream", true)},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return fmt.Errorf("describing %s: %w", answer.Service, err)
	}
	own := new(protoregistry.Files)
	if err := own.RegisterFile(file); err != nil {
		return fmt.Errorf("describing %s: %w", answer.Service, err)
	}
	grpc_reflection_v1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{
		Services: server, DescriptorResolver: resolver{own},
	}))
	return nil
}

// resolver finds descriptors among its own, and then among those that are linked into the program.
type resolver struct{ own *protoregistry.Files }

// FindFileByPath implements protodesc.Resolver.
func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if found, err := r.own.FindFileByPath(path); !errors.Is(err, protoregistry.NotFound) {
		return found, err
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := r.own.FindDescriptorByName(name); !errors.Is(err, protoregistry.NotFound) {
		return found, err
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}
