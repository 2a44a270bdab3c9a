package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/hansa-dev/hansa/eastwest/gateway/tunnel"
)

// TestAResetIsNoEnd holds that a stream which was cut off because its tunnel's connection has ended is not taken for one that
// has ended as it should.
func TestAResetIsNoEnd(t *testing.T) {
	for _, cause := range []error{io.EOF, fmt.Errorf("the other gateway closed the tunnel without notice: %w", io.EOF)} {
		err := fmt.Errorf("reading: %w", &tunnel.ResetError{Cause: cause})
		if errors.Is(err, io.EOF) {
			t.Errorf("%v counts as a regular end", err)
		}
		if _, reset := errors.AsType[*tunnel.ResetError](err); !reset {
			t.Errorf("%v is no reset", err)
		}
	}
	if err := error(&tunnel.ResetError{Cause: net.ErrClosed}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v has lost its cause", err)
	}
}
