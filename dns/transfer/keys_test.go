package transfer_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/dns/transfer"
)

const secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func TestParseKeys(t *testing.T) {
	octets, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		reason, text string
		want         []transfer.Key
		err          string
	}{
		{
			"as tsig-keygen writes it", "key \"to-Second\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n",
			[]transfer.Key{{Name: "to-second.", Secret: octets}},
			"",
		},
		{
			"several, on one line, with comments", "# ours\nkey a{secret " + secret + ";algorithm HMAC-SHA256;};// theirs\nkey b {algorithm hmac-sha256; secret " + secret + ";};",
			[]transfer.Key{{Name: "a.", Secret: octets}, {Name: "b.", Secret: octets}},
			"",
		},
		{"nothing", " # nothing\n", nil, "no key is given"},
		{"another clause", "zone \"x\" { };", nil, "clauses of the form"},
		{"another algorithm", "key a { algorithm hmac-md5; secret \"" + secret + "\"; };", nil, `algorithm "hmac-md5"`},
		{"no algorithm", "key a { secret \"" + secret + "\"; };", nil, `algorithm ""`},
		{"no base64", "key a { algorithm hmac-sha256; secret \"???\"; };", nil, "not base64"},
		{"a short secret", "key a { algorithm hmac-sha256; secret \"c2hvcnQ=\"; };", nil, "5 octets"},
		{"no end", "key a { algorithm hmac-sha256; secret \"" + secret + "\"; ", nil, "does not end"},
		{"a quote without an end", "key \"a { }", nil, "quote"},
		{"no name", "key \"\" { };", nil, "no domain name"},
		{"no semicolon", "key a { algorithm hmac-sha256 secret };", nil, "clauses of the form"},
	} {
		got, err := transfer.ParseKeys(row.text)
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: %s", row.reason, diff)
		}
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: got error %v, want %q", row.reason, err, row.err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the secret", row.reason)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("key \"a\" { algorithm hmac-sha256; secret \"" + secret + "\"; };")
	f.Add("# x\nkey a{};\"")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := transfer.ParseKeys(text)
		if err == nil && len(keys) == 0 {
			t.Error("neither keys nor an error")
		}
		for _, key := range keys {
			if err == nil && (key.Name == "" || len(key.Secret) < 16) {
				t.Errorf("a key that is none: %+v", key)
			}
		}
	})
}
