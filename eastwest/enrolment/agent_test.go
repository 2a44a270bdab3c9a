package enrolment_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

const day = 24 * time.Hour

// issued returns when the certificate of an agent was issued.
func issued(t *testing.T, agent *enrolment.Agent) time.Time {
	t.Helper()
	svid, err := agent.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return identity.Signed(svid.Certificates[0])
}

// pass lets time go by, which is that of a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// passDays lets days go by, on each of which the hub does its work.
func passDays(h *hub, days int) {
	for range days {
		pass(day)
		h.tick()
	}
}

// TestAgent is the life of an agent.
func TestAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		agent := newAgent(t, options)
		if _, err := agent.GetX509SVID(); !errors.Is(err, enrolment.ErrNotEnrolled) {
			t.Errorf("before it enrolled: %v", err)
		}
		before := agent.Changed()
		stop := run(t, agent)
		<-agent.Ready()
		<-before
		state := agent.State()
		if state.ID != identity.ClusterID(identity.DefaultTrustDomain(), "m1", identity.RoleGateway) || time.Until(state.Until) > identity.Lifetime || state.Problem != nil {
			t.Fatalf("%+v", state)
		}
		first := issued(t, agent)

		pass(21 * time.Hour)
		if !issued(t, agent).Equal(first) {
			t.Error("renewed before 21 hours have gone")
		}
		pass(3*time.Hour + time.Minute)
		second := issued(t, agent)
		if second.Equal(first) {
			t.Error("not renewed within a day")
		}

		// The hub is away for days. It could be weeks.
		h.set(func(h *hub) { h.away = true })
		pass(5 * day)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "hub:15010") || state.Until.Before(time.Now()) {
			t.Errorf("while the hub is away: %+v", state)
		}
		h.set(func(h *hub) { h.away = false })
		h.tick()
		pass(7 * time.Minute)
		if state := agent.State(); state.Problem != nil || time.Since(issued(t, agent)) > 8*time.Minute {
			t.Errorf("after the hub came back: %+v", state)
		}

		// A new process goes on with what is kept, without the hub and without any token.
		stop()
		last := issued(t, agent)
		options.AccountTokenFile = ""
		again := newAgent(t, options)
		<-again.Ready()
		if !issued(t, again).Equal(last) {
			t.Error("a new process has another certificate")
		}
		stop = run(t, again)
		passDays(h, 2)
		if issued(t, again).Equal(last) {
			t.Error("a new process does not renew")
		}
		stop()
		checkFiles(t, options.Dir)
	})
}

// checkFiles looks at what an agent leaves on the disk.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if whole, err := os.Stat(dir); err != nil || whole.Mode() != fs.ModeDir|0o700 {
		t.Errorf("directory mode %v, %v", whole.Mode(), err)
	}
}

// TestAgentRevoked: an agent whose certificate was revoked proves again who it is; one that is not in the cluster cannot.
func TestAgentRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		agent := newAgent(t, agentOptions(t, h))
		stop := run(t, agent)
		defer stop()
		<-agent.Ready()
		pass(time.Hour)
		h.set(func(h *hub) { h.revoked["m1"] = time.Now() })
		revoked := time.Now()
		// The feed of the agent is thrown out; it tells the agent why.
		feed, err := grpc.NewClient("passthrough:///hub:15010", grpc.WithContextDialer(h.dial),
			grpc.WithTransportCredentials(identity.Credentials(identity.HubClient{Own: agent, Roots: agent}.Config(), agent.Refused)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enrolmentpb.Renew(t.Context(), feed, &enrolmentpb.RenewRequest{Request: csr(t)}); err == nil {
			t.Error("a revoked certificate is accepted")
		}
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := issued(t, agent); got.Before(revoked) {
			t.Errorf("it was issued %s before the revocation", revoked.Sub(got))
		}
		// Once the cluster has left, nothing gives it another one.
		pass(time.Hour)
		h.set(func(h *hub) {
			h.revoked["m1"] = time.Now()
			delete(h.members, "m1.example")
		})
		last := issued(t, agent)
		agent.Hurry()
		pass(time.Hour)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "or there is no cluster") || !issued(t, agent).Equal(last) {
			t.Errorf("after it has left: %+v", state)
		}
	})
}

// TestAgentHurries: whoever is in a hurry all the time does not make the agent ask all the time.
func TestAgentHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		agent := newAgent(t, agentOptions(t, h))
		stop := run(t, agent)
		defer stop()
		<-agent.Ready()
		for range 600 {
			agent.Hurry()
			pass(time.Second)
		}
		if got := outcomes(t, agent.Collectors()...)["renewed"]; got < 15 || got > 21 {
			t.Errorf("%v renewals in ten minutes, want one in thirty seconds", got)
		}
	})
}

func outcomes(t *testing.T, collectors ...prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			counts[strings.Join(labels, " ")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return counts
}

// TestAgentJoinToken enrolls with a token that is good once, lets the certificate end, and needs another token.
func TestAgentJoinToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stopHub := newHub(t, nil)
		defer stopHub()
		options := agentOptions(t, h)
		options.AccountTokenFile, options.Cluster = "", ""
		options.JoinTokenFile = filepath.Join(t.TempDir(), "token")
		agent := newAgent(t, options)
		stop := run(t, agent)
		pass(time.Minute)
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "neither") {
			t.Errorf("without a token: %+v", state)
		}
		write(t, filepath.Dir(options.JoinTokenFile), "token", h.token("m1.example")+"\n")
		pass(2 * time.Minute)
		<-agent.Ready()
		passDays(h, 3) // the token is there still, and of no use
		if state := agent.State(); state.Problem != nil || state.ID.Cluster != "m1" {
			t.Errorf("%+v", state)
		}
		stop()

		passDays(h, 40) // nobody ran it
		agent = newAgent(t, options)
		stop = run(t, agent)
		pass(time.Hour)
		select {
		case <-agent.Ready():
			t.Error("it is ready with a certificate that ended")
		default:
		}
		if state := agent.State(); state.Problem == nil || !strings.Contains(state.Problem.Error(), "not used yet") {
			t.Errorf("with the used token: %+v", state)
		}
		if got := outcomes(t, h.server.Collectors()...)["enroll bad_token join_token"]; got != 0 {
			t.Errorf("the hub was asked %v times with a token that is worn out", got)
		}
		write(t, filepath.Dir(options.JoinTokenFile), "token", h.token("m1.example"))
		pass(10 * time.Minute)
		<-agent.Ready()
		if got := outcomes(t, agent.Collectors()...); got["enrolled"] != 1 || got[""] < float64(time.Now().Unix()) {
			t.Errorf("metrics: %v", got)
		}
		stop()
	})
}
