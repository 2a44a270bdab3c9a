package ads_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// player is a client of the simplest kind beside the truth about its view. It reads its moves from bytes.
type player struct {
	t       *testing.T
	desk    *ads.Desk
	delta   bool
	moves   []byte
	encoder ads.Encoder
	truth   map[ads.Key]string // versions by resource
	held    map[ads.Key]string
	asked   map[string]map[string]bool // names by type
	legacy  map[string]bool
	version map[string]string // accepted last, by type
	mail    []*ads.Letter     // on its way
	refused bool              // from here on the client and the server may differ
}

func play(t *testing.T, delta bool, moves []byte) {
	t.Helper()
	p := &player{
		t: t, desk: ads.NewDesk(delta, ads.Limits{ResponseBytes: 30}), delta: delta, moves: moves,
		truth: map[ads.Key]string{}, held: map[ads.Key]string{}, asked: map[string]map[string]bool{}, legacy: map[string]bool{},
		version: map[string]string{},
	}
	for len(p.moves) > 0 {
		p.move()
		if err := p.desk.Check(); err != nil {
			t.Fatal(err)
		}
	}
	p.desk.Apply(ads.Update{})
	p.settle()
	p.compare()
	p.desk.Leave()
}

func (p *player) pick(n int) int {
	if len(p.moves) == 0 {
		return 0
	}
	b := p.moves[0]
	p.moves = p.moves[1:]
	return int(b) % n
}

func (p *player) move() {
	url := []string{CDS, EDS, LDS, RDS}[p.pick(4)]
	switch p.pick(8) {
	case 0, 1:
		p.publish(url)
	case 2, 3:
		p.ask(url)
	case 4, 5:
		p.read("")
	case 6:
		p.fetch()
	case 7:
		switch p.pick(8) {
		case 0, 1:
			p.read("no")
		case 2:
			p.reconnect()
		}
		p.desk.Advance(15 * time.Millisecond)
	}
}

func name(i int) string { return fmt.Sprintf("r%d", i) }

func (p *player) publish(url string) {
	key := ads.Key{Type: url, Name: name(p.pick(4))}
	if content := p.pick(4); content > 0 {
		r := resource(p.t, &p.encoder, url, fmt.Sprintf("%s=%d", key.Name, content))
		p.truth[key] = r.Version()
		p.desk.Apply(ads.Update{Changed: []ads.Resource{r}})
		return
	}
	delete(p.truth, key)
	p.desk.Apply(ads.Update{Removed: []ads.Key{key}})
}

// ask changes which resources the client wants, and forgets those that it does not want any more.
func (p *player) ask(url string) {
	before := p.asked[url]
	now := map[string]bool{}
	for i, chosen := 0, p.pick(32); i < 5; i++ {
		if chosen&(1<<i) != 0 {
			now[append([]string{"*"}, name(0), name(1), name(2), name(3))[i]] = true
		}
	}
	full := url == CDS || url == LDS
	q := ads.Question{URL: url, Names: slices.Sorted(maps.Keys(now))}
	switch {
	case before == nil && len(now) == 0 && full:
		p.legacy[url] = true
		now["*"] = true
	case p.delta:
		q = ads.Question{URL: url}
		for n := range now {
			if !before[n] {
				q.Subscribe = append(q.Subscribe, n)
			}
		}
		for n := range before {
			if !now[n] {
				q.Unsubscribe = append(q.Unsubscribe, n)
			}
		}
		if before == nil && len(q.Subscribe) == 0 {
			q.Unsubscribe = nil
		}
	case p.legacy[url] && len(now) == 0:
		now["*"] = true
	default:
		p.legacy[url] = false
	}
	p.asked[url] = now
	for key := range p.held {
		if key.Type == url && !p.wants(key) {
			delete(p.held, key)
		}
	}
	if err := p.desk.Request(q); err != nil {
		p.t.Fatal(err)
	}
}

// reconnect asks on a new stream for what was asked for on the old one, and says what came of that.
func (p *player) reconnect() {
	p.desk.Reconnect()
	p.mail = nil
	for _, url := range []string{CDS, EDS, LDS, RDS} {
		names := slices.Sorted(maps.Keys(p.asked[url]))
		if len(names) == 0 {
			delete(p.asked, url)
			delete(p.legacy, url)
			continue
		}
		q := ads.Question{URL: url}
		switch {
		case p.delta:
			q.Subscribe, q.Initial = names, map[string]string{}
			for key, version := range p.held {
				if key.Type == url {
					q.Initial[key.Name] = version
				}
			}
		case p.legacy[url]:
			q.Version = p.version[url]
		default:
			q.Names, q.Version = names, p.version[url]
		}
		if err := p.desk.Request(q); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *player) wants(key ads.Key) bool {
	return p.asked[key.Type]["*"] || p.asked[key.Type][key.Name]
}

func (p *player) fetch() bool {
	letter, _ := p.desk.Next()
	if letter != nil {
		p.mail = append(p.mail, letter)
	}
	return letter != nil
}

// read takes in the oldest letter and answers it.
func (p *player) read(refusal string) {
	if len(p.mail) == 0 {
		return
	}
	letter := p.mail[0]
	p.mail = p.mail[1:]
	q := ads.Question{URL: letter.URL, Nonce: letter.Nonce, Refusal: refusal}
	if !p.delta && !p.legacy[letter.URL] {
		q.Names = slices.Sorted(maps.Keys(p.asked[letter.URL]))
	}
	if refusal != "" {
		p.refused = true
	} else {
		p.take(letter)
		p.version[letter.URL] = letter.Version
	}
	if err := p.desk.Request(q); err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) take(letter *ads.Letter) {
	if !p.delta && (letter.URL == CDS || letter.URL == LDS) {
		maps.DeleteFunc(p.held, func(key ads.Key, _ string) bool { return key.Type == letter.URL })
	}
	for name, version := range letter.Versions {
		if key := (ads.Key{Type: letter.URL, Name: name}); p.wants(key) {
			p.held[key] = version
		}
	}
	if !p.delta {
		return
	}
	for _, name := range letter.Removed {
		delete(p.held, ads.Key{Type: letter.URL, Name: name})
	}
}

// settle reads and fetches until nothing is left to say.
func (p *player) settle() {
	for quiet, rounds := 0, 0; quiet < 2; rounds++ {
		if rounds > 1000 {
			p.t.Fatal("the server never has said everything")
		}
		if p.fetch() {
			quiet = 0
		} else {
			quiet++
		}
		for len(p.mail) > 0 {
			p.read("")
		}
		p.desk.Advance(time.Second)
	}
	for url := range p.asked {
		if state := p.desk.State(url); state.Pending > 0 || state.Unanswered > 0 || state.Lag != 0 {
			p.t.Fatalf("nothing is left to say, and the state is %+v", state)
		}
	}
}

// compare finds out whether the client has what there is.
func (p *player) compare() {
	if p.refused {
		return
	}
	want := map[ads.Key]string{}
	for key, version := range p.truth {
		if p.wants(key) {
			want[key] = version
		}
	}
	got := maps.Clone(p.held)
	for key := range got {
		// State of the World cannot say that endpoints or routes are gone.
		if _, there := p.truth[key]; !there && !p.delta && (key.Type == EDS || key.Type == RDS) {
			delete(got, key)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Fatalf("what the client has (-want +got):\n%s", diff)
	}
}

func FuzzSession(f *testing.F) {
	f.Add(true, []byte("\x00\x00\x01\x01\x00\x02\x01"))
	f.Add(false, []byte("\x01\x02\x07\x01\x00\x02\x03\x00\x06\x00\x04"))
	f.Fuzz(play)
}

// TestClientsEndUpWithWhatThereIs plays many random games.
func TestClientsEndUpWithWhatThereIs(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		moves := make([]byte, 20+random.IntN(300))
		for i := range moves {
			moves[i] = byte(random.UintN(256))
		}
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { play(t, seed%2 == 0, moves) })
	}
}
