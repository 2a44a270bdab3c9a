package dns

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dchest/siphash"
)

const (
	clientCookie = 8  // octets
	serverCookie = 16 // octets of ours: version, reserved, time, hash
	wholeCookie  = clientCookie + serverCookie
	maxCookie    = 40 // octets, somebody else's server cookie included (RFC 7873, 4)

	cookieVersion = 1
	cookieAge     = time.Hour        // for which a cookie is good
	cookieFresh   = 30 * time.Minute // after which a client gets a new one
	cookieAhead   = 5 * time.Minute  // that clocks of servers with the same secret may differ
	secretAge     = 24 * time.Hour   // after which a random secret is replaced
)

// secret is the key of server cookies.
type secret = [16]byte

// cookies makes and checks server cookies (RFC 7873, in the form of RFC 9018, so that servers that share a secret take each
// other's). The first secret makes new ones, all check.
type cookies struct {
	secrets atomic.Pointer[[]secret]
	given   bool
}

func newCookies(given [][16]byte) *cookies {
	c := &cookies{given: len(given) > 0}
	secrets := given
	if !c.given {
		secrets = []secret{randomSecret()}
	}
	c.secrets.Store(&secrets)
	return c
}

func randomSecret() (s secret) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// rotate replaces a random secret, and keeps the one before for the cookies that are out. Given ones stay.
func (c *cookies) rotate() {
	if c.given {
		return
	}
	secrets := []secret{randomSecret(), (*c.secrets.Load())[0]}
	c.secrets.Store(&secrets)
}

// cookieLength tells whether a COOKIE option may have so many octets.
func cookieLength(n int) bool {
	return n == clientCookie || n >= clientCookie+8 && n <= maxCookie
}

// check tells whether a client's cookie has a server cookie of ours for its address, and whether that is as good as new: young
// and of the first secret.
func (c *cookies) check(cookie []byte, peer netip.Addr, now time.Time) (valid, fresh bool) {
	if len(cookie) != wholeCookie || cookie[clientCookie] != cookieVersion {
		return false, false
	}
	age := cookieTime(cookie, now)
	if age > cookieAge || age < -cookieAhead {
		return false, false
	}
	hash := binary.LittleEndian.Uint64(cookie[wholeCookie-8:])
	for i, s := range *c.secrets.Load() {
		if hashCookie(s, cookie, peer) == hash {
			return true, i == 0 && age < cookieFresh
		}
	}
	return false, false
}

// appendCookie appends the COOKIE option that answers a client's: its own, if it is fresh, else a new one.
func (c *cookies) appendCookie(dst, cookie []byte, fresh bool, peer netip.Addr, now time.Time) []byte {
	dst = append(dst, 0, optionCookie, 0, wholeCookie)
	if fresh {
		return append(dst, cookie...)
	}
	start := len(dst)
	dst = append(dst, cookie[:clientCookie]...)
	dst = append(dst, cookieVersion, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(now.Unix())) //nolint:gosec // serial arithmetic (RFC 9018, 4.3)
	return binary.LittleEndian.AppendUint64(dst, hashCookie((*c.secrets.Load())[0], dst[start:], peer))
}

// cookieTime returns how old a cookie is, in serial arithmetic.
func cookieTime(cookie []byte, now time.Time) time.Duration {
	made := binary.BigEndian.Uint32(cookie[clientCookie+4:])
	return time.Duration(int32(uint32(now.Unix())-made)) * time.Second //nolint:gosec // serial arithmetic
}

// hashCookie is the hash of RFC 9018, 4.4: SipHash-2-4 of the client's cookie, our version and time, and its address.
func hashCookie(s secret, cookie []byte, peer netip.Addr) uint64 {
	var message [clientCookie + 8 + 16]byte
	n := copy(message[:], cookie[:clientCookie+8])
	if peer.Is4() || peer.Is4In6() {
		v4 := peer.As4()
		n += copy(message[n:], v4[:])
	} else {
		v6 := peer.As16()
		n += copy(message[n:], v6[:])
	}
	return siphash.Hash(binary.LittleEndian.Uint64(s[:8]), binary.LittleEndian.Uint64(s[8:]), message[:n])
}
