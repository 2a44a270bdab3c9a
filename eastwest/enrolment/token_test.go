package enrolment_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

func tokenSecret(t *testing.T, host client.Client, text string) *corev1.Secret {
	t.Helper()
	id, _, _ := strings.Cut(text, ".")
	secret := &corev1.Secret{}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: enrolment.TokenPrefix + id}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestToken(t *testing.T) {
	host := newHost(t)
	token, err := enrolment.CreateToken(t.Context(), host, namespace, "m1.example", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, hidden, _ := strings.Cut(token.Text(), ".")
	secret := tokenSecret(t, host, token.Text())
	for key, value := range secret.Data {
		if strings.Contains(string(value), hidden) {
			t.Errorf("%s has the secret part of the token", key)
		}
	}
	if expires, err := time.Parse(time.RFC3339, string(secret.Data["expires"])); err != nil || time.Until(expires).Round(time.Minute) != time.Hour || string(secret.Data["cluster"]) != "m1.example" {
		t.Errorf("for %s until %s, %v", secret.Data["cluster"], expires, err)
	}
	for _, format := range []string{"%s", "%v", "%+v", "%#v", "%q"} {
		if strings.Contains(fmt.Sprintf(format, token), hidden) {
			t.Errorf("%s prints the secret", format)
		}
	}
	again, err := enrolment.ParseToken(token.Text())
	if err != nil || again != token {
		t.Errorf("%v, %v", again, err)
	}
}

func TestCreateTokenRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, cluster string
		ttl             time.Duration
		want            string
	}{
		"NoCluster": {reason: "A token is for one cluster.", want: "name it"},
		"Past":      {reason: "It would never be good.", cluster: "m1", ttl: -time.Second, want: "the most is"},
		"Long":      {reason: "What lies around is found.", cluster: "m1", ttl: 25 * time.Hour, want: "the most is"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := enrolment.CreateToken(t.Context(), newHost(t), namespace, tc.cluster, tc.ttl); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v", tc.reason, err)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	good := "abcdefghij." + strings.Repeat("k2", 16)
	for _, text := range []string{good, "", ".", good + ".", strings.ToUpper(good), "abcdefghij", good[:len(good)-1], good + "\n", "../../../.." + good} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := enrolment.ParseToken(text)
		if err != nil {
			if len(text) > 40 && strings.Contains(err.Error(), text) {
				t.Error("the error repeats it")
			}
			return
		}
		if token.Text() != text || len(text) != len(good) || strings.Trim(token.ID, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("%q is read as %q", text, token.Text())
		}
	})
}

// TestTokenOnce has a token used by many at once, on two replicas.
func TestTokenOnce(t *testing.T) {
	h, stop := newHub(t, nil)
	defer stop()
	other := enrolment.NewServer(enrolment.Options{
		Issuer: h.who, ClusterID: h.clusterID, Log: logr.Discard(), Tokens: &enrolment.Tokens{Client: h.host, Namespace: namespace, Log: logr.Discard()},
	})
	text := h.token("m1.example")
	var given atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		server := h.server
		if i%2 == 0 {
			server = other
		}
		all.Go(func() {
			_, err := server.Enroll(from("192.0.2.1"), byToken(t, text))
			if err == nil {
				given.Add(1)
			}
		})
	}
	all.Wait()
	if got := given.Load(); got != 1 {
		t.Errorf("one token gave %d certificates", got)
	}
}

// TestTokenStale: a replica whose cache is behind finds a token that was used, or one of the same name that was made since.
func TestTokenStale(t *testing.T) {
	for name, failure := range map[string]error{
		"Gone":  apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "x"),
		"Other": apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "x", errors.New("the UID is another")),
	} {
		t.Run(name, func(t *testing.T) {
			h, stop := newHub(t, func(o *enrolment.Options) {
				o.Tokens.Client = interceptor.NewClient(o.Tokens.Client.(client.WithWatch), interceptor.Funcs{
					Delete: func(_ context.Context, _ client.WithWatch, _ client.Object, options ...client.DeleteOption) error {
						var asked client.DeleteOptions
						asked.ApplyOptions(options)
						if asked.Preconditions == nil || asked.Preconditions.UID == nil || *asked.Preconditions.UID == "" {
							return errors.New("it would delete any object of that name")
						}
						return failure
					},
				})
			})
			defer stop()
			if got := codeOf(h.server.Enroll(from("192.0.2.1"), byToken(t, h.token("m1.example")))); got != "Unauthenticated" {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	host := newHost(t)
	now := time.Now()
	tokens := &enrolment.Tokens{Client: host, Namespace: namespace, Log: logr.Discard(), Now: func() time.Time { return now }}
	text := func(ttl time.Duration) string {
		t.Helper()
		token, err := enrolment.CreateToken(t.Context(), host, namespace, "m1", ttl)
		if err != nil {
			t.Fatal(err)
		}
		return token.Text()
	}
	text(time.Hour)
	long := text(24 * time.Hour)
	theirs := &corev1.Secret{}
	theirs.Namespace, theirs.Name = namespace, enrolment.TokenPrefix+"theirs"
	if err := host.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(tokens.Start(ctx), tokens.Sweep(t.Context())); err != nil || !tokens.NeedLeaderElection() {
		t.Fatal(err)
	}
	left := &corev1.SecretList{}
	if err := host.List(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if len(left.Items) != 2 {
		t.Errorf("%d secrets are left, want that of the token that has not ended, and one of somebody else", len(left.Items))
	}
	tokenSecret(t, host, long)
}
