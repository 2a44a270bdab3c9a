package dns

import (
	"encoding/binary"
	"errors"

	miekg "github.com/miekg/dns"
)

var errLayout = errors.New("the message is not what its header says")

// layout goes over a message and returns the data of its first OPT, nil for none. It is an error when the message has other
// records than its header says, or anything behind them: the library reads what it finds.
func layout(message []byte) (opt []byte, err error) {
	at := headerSize
	for range binary.BigEndian.Uint16(message[4:]) {
		if at, err = skipName(message, at); err != nil {
			return nil, err
		}
		at += 4
	}
	records := 0
	for _, count := range [][]byte{message[6:], message[8:], message[10:]} {
		records += int(binary.BigEndian.Uint16(count))
	}
	for range records {
		if at, err = skipName(message, at); err != nil {
			return nil, err
		}
		if at+fixedRR > len(message) {
			return nil, errLayout
		}
		begin := at + fixedRR
		end := begin + int(binary.BigEndian.Uint16(message[begin-2:]))
		if end > len(message) {
			return nil, errLayout
		}
		if opt == nil && binary.BigEndian.Uint16(message[at:]) == miekg.TypeOPT {
			opt = message[begin:end]
		}
		at = end
	}
	if at != len(message) {
		return nil, errLayout
	}
	return opt, nil
}

// skipName returns the offset behind a name.
func skipName(message []byte, at int) (int, error) {
	for at < len(message) {
		switch length := int(message[at]); {
		case length == 0:
			return at + 1, nil
		case length >= pointer>>8:
			return at + 2, nil
		case length > maxLabel:
			return 0, errLayout
		default:
			at += 1 + length
		}
	}
	return 0, errLayout
}

// strictSubnets tells whether each network in an OPT has as many octets as its length says, and no bits behind it (RFC 7871, 6).
func strictSubnets(options []byte) bool {
	for len(options) >= 4 {
		code, length := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < 4+length {
			return false
		}
		if code == miekg.EDNS0SUBNET && !strictSubnet(options[4:4+length]) {
			return false
		}
		options = options[4+length:]
	}
	return len(options) == 0
}

func strictSubnet(option []byte) bool {
	const fixed = 4 // family, bits of the source, bits of the scope
	if len(option) < fixed {
		return false
	}
	bits, address := int(option[2]), option[fixed:]
	if len(address) != (bits+7)/8 {
		return false
	}
	used := bits % 8
	return used == 0 || address[len(address)-1]<<used == 0
}
