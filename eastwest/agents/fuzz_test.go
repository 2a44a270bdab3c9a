package agents_test

import (
	"testing"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/agents"
	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// FuzzCheck reads what agents may say. What is accepted has texts that a terminal shows as they are, of bounded size.
func FuzzCheck(f *testing.F) {
	for _, m := range []*agentpb.AgentMessage{
		{Message: &agentpb.AgentMessage_Hello{Hello: &agentpb.Hello{Node: "n1", Version: "v1\x00", Outside: "192.0.2.1", Inside: "::ffff:10.0.0.1", Tunnel: 15445}}},
		{Message: &agentpb.AgentMessage_Report{Report: &agentpb.Report{LocalProblem: "a\nb\x1b[0m", Sights: []*agentpb.Sight{{Cluster: "b", Address: "[2001:db8::1]:1", Problem: "x"}}}}},
		{Message: &agentpb.AgentMessage_Stats{Stats: &agentpb.Stats{Counters: []*agentpb.Counter{{Namespace: "shop", Name: "web", Peer: "b", Port: 80}}}}},
		{Message: &agentpb.AgentMessage_Trace{Trace: &agentpb.TraceResult{Id: 1, Hops: []*agentpb.Hop{{Name: "tunnel", Problem: "\u202e"}}}}},
		{Message: &agentpb.AgentMessage_Goodbye{Goodbye: &agentpb.Goodbye{}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &agentpb.AgentMessage{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		texts, err := agents.Check(m)
		if err != nil {
			return
		}
		for _, text := range texts {
			if len(text) > 512 {
				t.Errorf("a text of %d bytes", len(text))
			}
			for _, r := range text {
				if !unicode.IsPrint(r) {
					t.Errorf("%q has %U", text, r)
				}
			}
		}
	})
}
