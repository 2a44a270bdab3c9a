package identity

// What the tests look at from outside.
var (
	ProvedOID   = provedOID
	ParseProof  = parseProof
	EncodeProof = encodeProof
)
