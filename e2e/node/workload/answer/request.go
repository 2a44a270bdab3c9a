package answer

// RequestHeader names a request, so that servers see when one reaches them twice. Its value is one of the client's, of at
// most MaxRequest bytes.
const (
	RequestHeader = "X-Request-Id"
	MaxRequest    = 64
)
