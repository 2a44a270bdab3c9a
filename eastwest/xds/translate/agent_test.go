package translate_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

func TestWhatAgentsAreTold(t *testing.T) {
	key := clusterset.Key{Namespace: "shop", Name: "web"}
	for _, c := range []struct {
		reason, cluster string
		consumers       *clusterset.Consumers
		want            func(*clusterset.Service) *servicepb.Service
	}{
		{"everybody may consume it", "m3", nil, servicepb.Whole},
		{"the cluster may consume it", "m3", &clusterset.Consumers{Clusters: []string{"m3"}}, servicepb.Whole},
		{"the cluster exports it and may not consume it", "m1", &clusterset.Consumers{Clusters: []string{"m3"}}, func(s *clusterset.Service) *servicepb.Service {
			return servicepb.Part(s, "m1")
		}},
		{"the cluster has nothing to do with it", "m2", &clusterset.Consumers{}, nil},
	} {
		b := clusterset.NewBuilder(0)
		b.SetExport("m1", key, clusterset.Export{Properties: &clusterset.Properties{Ports: []clusterset.Port{{Name: "http", Port: 80}}}})
		b.SetExport("m4", key, clusterset.Export{})
		b.SetPolicy(key, clusterset.Policy{Consumers: c.consumers})
		snapshot := b.Publish()
		told := translate.Client{Flavour: translate.Agent, From: clusterset.Consumer{Cluster: c.cluster}}.
			Moving(snapshot, snapshot.Service(key), false)
		switch {
		case c.want == nil && len(told) == 0:
		case c.want == nil || len(told) != 1:
			t.Errorf("%s: it is told %d resources: %v", c.reason, len(told), told)
		case told[0].Name != "shop/web" || !proto.Equal(told[0].Proto, c.want(snapshot.Service(key))):
			t.Errorf("%s: it is told %v", c.reason, told[0])
		}
	}
}
