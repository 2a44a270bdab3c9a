package hello

import "strconv"

// ParseError says why a client is not understood.
type ParseError uint8

// What can be wrong.
const (
	// ErrNotTLS: what came is something else, an HTTP request for example.
	ErrNotTLS ParseError = iota + 1
	// ErrUnexpected: it is TLS, but no ClientHello.
	ErrUnexpected
	// ErrOverflow: a record is larger than TLS allows.
	ErrOverflow
	// ErrTooLarge: the ClientHello is larger than MaxSize.
	ErrTooLarge
	// ErrMalformed: a length does not fit, or something is there twice.
	ErrMalformed
	// ErrNoName: the client names no server.
	ErrNoName
	// ErrSeveralNames: the client names more than one server.
	ErrSeveralNames
	// ErrNotAService: the name is not that of a service.
	ErrNotAService
)

// Error returns a sentence without the final stop.
func (e ParseError) Error() string {
	switch e {
	case ErrNotTLS:
		return "the client does not speak TLS"
	case ErrUnexpected:
		return "the client begins with something other than a ClientHello"
	case ErrOverflow:
		return "the client sends a record that is larger than TLS allows"
	case ErrTooLarge:
		return "the ClientHello is larger than " + strconv.Itoa(MaxSize) + " octets"
	case ErrMalformed:
		return "the ClientHello is malformed"
	case ErrNoName:
		return "the client names no server (SNI)"
	case ErrSeveralNames:
		return "the client names more than one server"
	case ErrNotAService:
		return "the name is not that of a service"
	default:
		return "the ClientHello is not understood"
	}
}

// Alert returns what to answer. It is 0 where nothing should be: the client would not understand it.
func (e ParseError) Alert() Alert {
	switch e {
	case ErrNotTLS:
		return 0
	case ErrUnexpected:
		return UnexpectedMessage
	case ErrOverflow:
		return RecordOverflow
	case ErrTooLarge:
		return HandshakeFailure
	case ErrNoName, ErrNotAService:
		return UnrecognizedName
	case ErrSeveralNames:
		return IllegalParameter
	default:
		return DecodeError
	}
}

// Alert is the description of an alert that ends a connection (RFC 8446, section 6).
type Alert uint8

// The alerts that a gateway sends.
const (
	UnexpectedMessage Alert = 10
	RecordOverflow    Alert = 22
	HandshakeFailure  Alert = 40
	IllegalParameter  Alert = 47
	AccessDenied      Alert = 49
	DecodeError       Alert = 50
	InternalError     Alert = 80
	UnrecognizedName  Alert = 112
)

// AlertSize is the size of an alert's record.
const AlertSize = 7

// Record returns the alert as a client gets it before versions have been agreed on.
func (a Alert) Record() [AlertSize]byte {
	const fatal = 2
	return [AlertSize]byte{typeAlert, majorVersion, 3, 0, 2, fatal, byte(a)}
}
