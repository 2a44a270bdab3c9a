package transfer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/miekg/dns"
)

// Key is a secret that is shared with a secondary.
type Key struct {
	// Name is a domain name that both sides have for the key.
	Name string
	// Secret is what only they know.
	Secret []byte
}

// minSecret is the least octets of a secret: half of what the hash gives out (RFC 8945, 8 asks for as many).
const minSecret = 16

var errKeyFile = errors.New(`a key file has clauses of the form: key "name" { algorithm hmac-sha256; secret "base64"; };`)

// ParseKeys reads keys as tsig-keygen and keymgr write them, which servers of others read too:
//
//	key "name" { algorithm hmac-sha256; secret "base64"; };
//
// Errors name the key and never the secret.
func ParseKeys(text string) ([]Key, error) {
	words, err := tokens(text)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for len(words) > 0 {
		var key Key
		if key, words, err = parseKey(words); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key is given: %w", errKeyFile)
	}
	return keys, nil
}

// parseKey reads one clause, and returns the words behind it.
func parseKey(words []string) (Key, []string, error) {
	key, err := parseName(words)
	if err != nil {
		return Key{}, nil, err
	}
	algorithm := ""
	for words = words[3:]; len(words) > 2 && words[0] != "}"; words = words[3:] {
		switch {
		case words[0] == "algorithm" && words[2] == ";":
			algorithm = words[1]
		case words[0] == "secret" && words[2] == ";":
			secret, err := base64.StdEncoding.DecodeString(words[1])
			if err != nil {
				return Key{}, nil, fmt.Errorf("the secret of key %q is not base64", key.Name)
			}
			key.Secret = secret
		default:
			return Key{}, nil, fmt.Errorf("key %q: %w", key.Name, errKeyFile)
		}
	}
	if len(words) < 2 || words[0] != "}" || words[1] != ";" {
		return Key{}, nil, fmt.Errorf("key %q does not end: %w", key.Name, errKeyFile)
	}
	return key, words[2:], key.check(algorithm)
}

func parseName(words []string) (Key, error) {
	if len(words) < 3 || words[0] != "key" || words[2] != "{" {
		return Key{}, errKeyFile
	}
	if _, valid := dns.IsDomainName(words[1]); !valid || words[1] == "" {
		return Key{}, fmt.Errorf("the name of key %q is no domain name", words[1])
	}
	return Key{Name: dns.CanonicalName(words[1])}, nil
}

func (k Key) check(algorithm string) error {
	if !strings.EqualFold(algorithm, "hmac-sha256") {
		return fmt.Errorf("key %q is for algorithm %q: make one for hmac-sha256", k.Name, algorithm)
	}
	if len(k.Secret) < minSecret {
		return fmt.Errorf("the secret of key %q has %d octets: make one of at least %d", k.Name, len(k.Secret), minSecret)
	}
	return nil
}

// tokens splits a file into words, without quotes and comments.
func tokens(text string) (words []string, err error) {
	for {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
		switch {
		case text == "":
			return words, nil
		case strings.HasPrefix(text, "#") || strings.HasPrefix(text, "//"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.ContainsRune("{};", rune(text[0])):
			words, text = append(words, text[:1]), text[1:]
		case text[0] == '"':
			word, rest, closed := strings.Cut(text[1:], `"`)
			if !closed {
				return nil, fmt.Errorf("a quote does not end: %w", errKeyFile)
			}
			words, text = append(words, word), rest
		default:
			end := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`{};"`, r) })
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
}
