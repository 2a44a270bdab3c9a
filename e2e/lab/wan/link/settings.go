package link

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxDelay is the longest delay of a link.
const MaxDelay = time.Minute

// Settings say what one direction of a link is like. The zero value is a link without distance or limit.
type Settings struct {
	Delay     time.Duration // one way
	Jitter    time.Duration // each packet's delay differs by up to this much, both ways, all values alike
	Loss      float64       // probability that a packet is lost, 0 to 1
	Bandwidth Bandwidth
	Cut       bool // nothing passes
}

// Check tells what is wrong with the settings.
func (s Settings) Check() error {
	switch {
	case s.Delay < 0 || s.Delay > MaxDelay:
		return fmt.Errorf("delay %s: it must be 0s to %s", s.Delay, MaxDelay)
	case s.Jitter < 0:
		return fmt.Errorf("jitter %s: it must not be negative", s.Jitter)
	case s.Jitter > s.Delay:
		return fmt.Errorf("jitter %s: it must not be more than the delay, which is %s", s.Jitter, s.Delay)
	case !(s.Loss >= 0 && s.Loss <= 1): // NaN too
		return fmt.Errorf("loss %v: it must be 0 to 1", s.Loss)
	}
	return s.Bandwidth.check()
}

// ParseDuration reads a delay or a jitter, such as "20ms".
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no duration: write it like 20ms or 1.5s", text)
	case d < 0:
		return 0, fmt.Errorf("duration %q is negative", text)
	case d > MaxDelay:
		return 0, fmt.Errorf("duration %q is longer than %s", text, MaxDelay)
	}
	return d, nil
}

// ParseLoss reads a probability, such as "1%" or "0.01".
func ParseLoss(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	loss, err := decimal(number)
	if err != nil {
		return 0, fmt.Errorf("%q is no probability: write it like 1%% or 0.01", text)
	}
	if percent {
		loss /= 100
	}
	if loss > 1 {
		return 0, fmt.Errorf("probability %q is more than 100%%, which is 1", text)
	}
	return loss, nil
}

// Bandwidth is in bits per second; 0 is unlimited.
type Bandwidth int64

// Bandwidths, as in 100*link.Mbit.
const (
	Bit  Bandwidth = 1
	Kbit           = 1000 * Bit
	Mbit           = 1000 * Kbit
	Gbit           = 1000 * Mbit
)

// Below the least, one packet takes longer than anybody waits; above the most, the time that it takes cannot be told.
const (
	leastBandwidth = Kbit
	mostBandwidth  = 1000 * Gbit
)

// units are from large to small.
var units = []struct {
	name string
	size Bandwidth
}{{"Gbit", Gbit}, {"Mbit", Mbit}, {"kbit", Kbit}, {"bit", Bit}}

// ParseBandwidth reads a bandwidth such as "100Mbit", "1.5Gbit" or "800kbit"; "0" is unlimited.
func ParseBandwidth(text string) (Bandwidth, error) {
	if text == "0" {
		return 0, nil
	}
	for _, unit := range units {
		number, ok := cutSuffixFold(text, unit.name)
		if !ok {
			continue
		}
		value, err := decimal(number)
		if err != nil {
			break
		}
		bits := math.Round(value * float64(unit.size))
		if bits > float64(mostBandwidth) {
			return 0, fmt.Errorf("bandwidth %q is more than %s", text, mostBandwidth)
		}
		b := Bandwidth(bits)
		if value > 0 && b == 0 {
			b = 1 // not unlimited
		}
		return b, b.check()
	}
	return 0, fmt.Errorf("%q is no bandwidth: write it like 100Mbit, 1Gbit or 800kbit, or 0 for no limit", text)
}

// String returns what ParseBandwidth reads.
func (b Bandwidth) String() string {
	if b == 0 {
		return "0"
	}
	for _, unit := range units {
		if b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return "" // not reached: every number is a multiple of 1bit
}

func (b Bandwidth) check() error {
	if b != 0 && (b < leastBandwidth || b > mostBandwidth) {
		return fmt.Errorf("bandwidth %s: it must be %s to %s, or 0 for no limit", b, leastBandwidth, mostBandwidth)
	}
	return nil
}

// decimal reads digits with at most one point among them: neither signs nor exponents nor infinities.
func decimal(text string) (float64, error) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, errors.New("no decimal number")
	}
	return strconv.ParseFloat(text, 64)
}

func cutSuffixFold(text, suffix string) (string, bool) {
	at := len(text) - len(suffix)
	if at < 0 || !strings.EqualFold(text[at:], suffix) {
		return "", false
	}
	return text[:at], true
}
