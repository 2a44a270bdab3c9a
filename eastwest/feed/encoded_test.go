package feed_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

var encoder ads.Encoder

// encoded makes a resource of a message.
func encoded(tb testing.TB, url, name string, m proto.Message) ads.Resource {
	tb.Helper()
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return encoder.Encoded(url, name, value)
}
