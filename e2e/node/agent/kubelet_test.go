package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hansa-dev/hansa/e2e/node/agent"
)

func TestOnlyTheAPIServerUsesTheKubeletAPI(t *testing.T) {
	handler := agent.OnlyAPIServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, test := range []struct {
		reason  string
		clients []pkix.Name
		want    int
	}{
		{"the API server", []pkix.Name{{CommonName: "kube-apiserver-kubelet-client"}}, http.StatusOK},
		{"those who may do everything", []pkix.Name{{CommonName: "admin", Organization: []string{"a", "system:masters"}}}, http.StatusOK},
		{"a node is a client of the same authority", []pkix.Name{{CommonName: "system:node:m1-n1", Organization: []string{"system:nodes"}}}, http.StatusForbidden},
		{"so are the controllers", []pkix.Name{{CommonName: "system:kube-controller-manager"}}, http.StatusForbidden},
		{"a name in the place of a group is none", []pkix.Name{{CommonName: "system:masters"}}, http.StatusForbidden},
		{"it is the first certificate that tells the client", []pkix.Name{{CommonName: "x"}, {CommonName: "kube-apiserver-kubelet-client"}}, http.StatusForbidden},
		{"nobody", nil, http.StatusUnauthorized},
	} {
		request := httptest.NewRequest(http.MethodGet, "/containerLogs/n/p/c", nil)
		request.TLS = &tls.ConnectionState{}
		for _, name := range test.clients {
			request.TLS.PeerCertificates = append(request.TLS.PeerCertificates, &x509.Certificate{Subject: name})
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != test.want {
			t.Errorf("%s: %d, want %d", test.reason, answer.Code, test.want)
		}
	}
}
