package agents

import "github.com/hansa-dev/hansa/eastwest/agents/agentpb"

// Check reads a message as a Server does, and returns the texts of it that people see.
func Check(m *agentpb.AgentMessage) (texts []string, err error) {
	switch said := m.GetMessage().(type) {
	case *agentpb.AgentMessage_Hello:
		hello, err := readHello(said.Hello)
		return []string{hello.Node, hello.Version}, err
	case *agentpb.AgentMessage_Report:
		_, err := readReport(said.Report)
		texts = append(texts, said.Report.GetLocalProblem())
		for _, s := range said.Report.GetSights() {
			texts = append(texts, s.GetCluster(), s.GetAddress(), s.GetProblem())
		}
		return texts, err
	case *agentpb.AgentMessage_Stats:
		err := checkStats(said.Stats)
		for _, c := range said.Stats.GetCounters() {
			texts = append(texts, c.GetNamespace(), c.GetName(), c.GetPeer())
		}
		return texts, err
	case *agentpb.AgentMessage_Trace:
		cleanTrace(said.Trace)
		texts = append(texts, said.Trace.GetProblem())
		for _, h := range said.Trace.GetHops() {
			texts = append(texts, h.GetName(), h.GetCluster(), h.GetAddress(), h.GetDetail(), h.GetProblem(), h.GetNext())
		}
	}
	return texts, nil
}
