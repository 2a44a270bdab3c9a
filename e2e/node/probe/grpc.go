package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// serving is the state of a service that is well, in the health protocol of gRPC.
const serving = 1

// grpcHealth speaks just enough gRPC for the one call of its health protocol, grpc.health.v1.Health/Check.
func grpcHealth(ctx context.Context, action *corev1.GRPCAction, t Target) Result {
	address, err := t.address("", intstr.FromInt32(action.Port))
	if err != nil {
		return failed("%v", err)
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(frame(checkRequest(service))))
	if err != nil {
		return failed("making the request: %v", err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Header.Set("User-Agent", "kube-probe/lab")
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return failed("%v", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxOutput))
	if err != nil {
		return failed("reading the answer: %v", err)
	}
	status, message := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if status == "" { // an answer without a body has it in front
		status, message = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	if status != "0" {
		return failed("the health check ended with gRPC status %q %s", status, message)
	}
	state, err := checkResponse(body)
	if err != nil {
		return failed("%v", err)
	}
	if state != serving {
		return failed("service unhealthy (responded with %q)", stateName(state))
	}
	return Result{OK: true}
}

// checkRequest encodes the message with its one field, the name of the service.
func checkRequest(service string) []byte {
	if service == "" {
		return nil
	}
	const field1 = 1<<3 | 2 // a string
	message := binary.AppendUvarint([]byte{field1}, uint64(len(service)))
	return append(message, service...)
}

// frame puts gRPC's header before a message: not compressed, and its length.
func frame(message []byte) []byte {
	header := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // G115: the name of a service
	return append(header, message...)
}

// checkResponse decodes the state in the answer; a message without it says 0.
func checkResponse(body []byte) (uint64, error) {
	const header = 5
	if len(body) < header {
		return 0, errors.New("the answer to the health check is too short")
	}
	message := body[header:]
	if len(message) == 0 {
		return 0, nil
	}
	const field1 = 1 << 3 // a number
	state, n := binary.Uvarint(message[1:])
	if message[0] != field1 || n <= 0 {
		return 0, errors.New("the answer to the health check is none")
	}
	return state, nil
}

func stateName(state uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if state < uint64(len(names)) {
		return names[state]
	}
	return "?"
}
