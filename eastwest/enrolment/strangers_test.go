package enrolment_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"google.golang.org/grpc/status"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

// TestStrangersLearnNothing: who names clusters hears the same of one that there is and of one that there is not. The log says
// which it was.
func TestStrangersLearnNothing(t *testing.T) {
	var log strings.Builder
	h, stop := newHub(t, func(o *enrolment.Options) {
		o.Log = funcr.New(func(_, args string) { log.WriteString(args + "\n") }, funcr.Options{Verbosity: 9})
	})
	answers := map[string]string{}
	for _, cluster := range []string{"m1.example", "m9.example"} {
		_, err := h.server.Enroll(from("192.0.2.1"), byAccount(t, cluster, "rubbish"))
		answers[cluster] = status.Code(err).String() + strings.ReplaceAll(status.Convert(err).Message(), cluster, "CLUSTER")
	}
	stop()
	if answers["m1.example"] != answers["m9.example"] {
		t.Errorf("of one that is joined: %s\nof one that is not: %s", answers["m1.example"], answers["m9.example"])
	}
	if text := log.String(); strings.Count(text, "is not joined") != 1 {
		t.Errorf("the log does not say that one is not joined:\n%s", text)
	}
}

// TestPerCluster: a cluster that does not answer takes no places away from others.
func TestPerCluster(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	h, stop := newHub(t, func(o *enrolment.Options) {
		o.Limits = enrolment.Limits{PerCluster: 2}
		o.Reviewer = enrolment.TokenReviewerFunc(func(ctx context.Context, cluster, _ string, _ []string) (string, string, error) {
			if cluster == "m1.example" {
				entered <- struct{}{}
				select {
				case <-leave:
				case <-ctx.Done():
				}
			}
			return account, "u1", nil
		})
	})
	defer stop()
	var slow sync.WaitGroup
	for range 2 {
		slow.Go(func() {
			if _, err := h.server.Enroll(from("192.0.2.1"), byAccount(t, "m1.example", "x")); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	if got := codeOf(h.server.Enroll(from("192.0.2.2"), byAccount(t, "m1.example", "x"))); got != "ResourceExhausted" {
		t.Errorf("a third about the same cluster: %s", got)
	}
	if got := codeOf(h.server.Enroll(from("192.0.2.2"), byAccount(t, "m2.example", "x"))); got != "OK" {
		t.Errorf("another cluster: %s", got)
	}
	close(leave)
	slow.Wait()
	if got := codeOf(h.server.Enroll(from("192.0.2.2"), byAccount(t, "m1.example", "x"))); got != "OK" {
		t.Errorf("after the others are done: %s", got)
	}
}
