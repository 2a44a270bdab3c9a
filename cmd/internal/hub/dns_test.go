package hub

import (
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestDNSIsOff holds that a hub without an address for DNS serves none, and says so to those who seem to want it.
func TestDNSIsOff(t *testing.T) {
	for want, args := range map[string][]string{
		"": {},
		"--dns-source is about DNS, which is off": {"--dns-source", "10.0.0.0/8=m1"},
		"--dns-external-zone is about DNS":        {"--dns-external-zone", "example.org"},
	} {
		o, flags := &Options{}, pflag.NewFlagSet("hub", pflag.ContinueOnError)
		o.DNS.Add(flags, "dns-")
		if err := flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		err := serveDNS(nil, o, nil, logr.Discard())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestComplete holds that names are kept back until the table is as complete as can be, and not longer.
func TestComplete(t *testing.T) {
	builder := clusterset.NewBuilder(1000)
	builder.SetCluster(clusterset.Cluster{ID: "m1"})
	latest, ready := clusterset.NewLatest(builder.Publish()), make(chan struct{})
	names := complete{latest, ready}
	snapshot, changed := names.Current()
	if snapshot.Sequence() != 0 {
		t.Errorf("before, there is a snapshot with the sequence %d", snapshot.Sequence())
	}
	builder.SetCluster(clusterset.Cluster{ID: "m2"})
	latest.Publish(builder.Publish())
	select {
	case <-changed:
		t.Error("an incomplete snapshot is announced")
	default:
	}
	close(ready)
	<-changed
	snapshot, changed = names.Current()
	if want, _ := latest.Current(); snapshot != want {
		t.Errorf("afterwards, the snapshot has the sequence %d, not %d", snapshot.Sequence(), want.Sequence())
	}
	builder.SetCluster(clusterset.Cluster{ID: "m3"})
	latest.Publish(builder.Publish())
	<-changed
}
