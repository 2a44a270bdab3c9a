package enrolment

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// idLength and secretLength are those of the parts of a join token, in characters of 5 bits: 50 bits name it, and 160 are
	// secret.
	idLength     = 10
	secretLength = 32
	// alphabet is that of Base 32 (RFC 4648) in small letters: fit for the name of an object.
	alphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

// Token is a join token. It prints as its ID only, so that its secret gets into no log.
type Token struct {
	ID     string
	secret string
}

// newToken makes a token.
func newToken() (Token, error) {
	random := make([]byte, idLength+secretLength)
	if _, err := rand.Read(random); err != nil {
		return Token{}, fmt.Errorf("making a join token: %w", err)
	}
	for i, b := range random {
		random[i] = alphabet[b%byte(len(alphabet))] // 32 divides 256: every character is as likely
	}
	return Token{ID: string(random[:idLength]), secret: string(random[idLength:])}, nil
}

// ParseToken reads a token as Text writes it. Its error does not repeat what was read.
func ParseToken(text string) (Token, error) {
	id, secret, ok := strings.Cut(text, ".")
	if !ok || len(id) != idLength || len(secret) != secretLength || strings.Trim(id, alphabet) != "" || strings.Trim(secret, alphabet) != "" {
		return Token{}, fmt.Errorf("this is no join token: it has to be ID.SECRET, with %d and %d of the characters %s", idLength, secretLength, alphabet)
	}
	return Token{ID: id, secret: secret}, nil
}

// Text returns the whole token, ID.SECRET. It is to be given to the agent, and to nobody else.
func (t Token) Text() string { return t.ID + "." + t.secret }

// String returns its ID.
func (t Token) String() string { return t.ID }

// GoString returns its ID.
func (t Token) GoString() string { return "enrolment.Token{" + t.ID + "}" }

// hash is what is kept of a token. Its secret is random and long, so one round of SHA-256 is enough.
func (t Token) hash() string {
	sum := sha256.Sum256([]byte("hansa join token " + t.Text()))
	return hex.EncodeToString(sum[:])
}

// matches tells whether a hash is that of the token, in a time that does not depend on how much of it is right.
func (t Token) matches(hash []byte) bool {
	return subtle.ConstantTimeCompare([]byte(t.hash()), hash) == 1
}

// ErrToken says that a join token gives nothing: it is not known, was used, has ended, or its secret is wrong. Which of
// these is not said.
var ErrToken = errors.New("the join token is not known, was used, or has ended: make another one")
