package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/cluster"
)

func registration(change func(*corev1b1.KubeFedCluster)) *corev1b1.KubeFedCluster {
	c := &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Name: "m1", Namespace: "hub"}}
	c.Spec.APIEndpoint = "https://127.0.0.1:6443"
	c.Spec.SecretRef.Name = "m1-token"
	change(c)
	return c
}

func secret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "m1-token", Namespace: "hub"}, Data: data}
}

func TestRESTConfigMalformed(t *testing.T) {
	token := secret(map[string][]byte{"token": []byte("t")})
	tests := map[string]struct {
		reason string
		change func(*corev1b1.KubeFedCluster)
		secret *corev1.Secret
		says   string
	}{
		"NoSecret":   {"the Secret must exist", func(*corev1b1.KubeFedCluster) {}, nil, `Secret "m1-token"`},
		"NoToken":    {"the Secret must have a token", func(*corev1b1.KubeFedCluster) {}, secret(nil), `"token" key`},
		"NoEndpoint": {"an endpoint is needed", func(c *corev1b1.KubeFedCluster) { c.Spec.APIEndpoint = "" }, token, "spec.apiEndpoint"},
		"BadCA":      {"a CA bundle holds PEM", func(c *corev1b1.KubeFedCluster) { c.Spec.CABundle = []byte("x") }, token, "spec.caBundle"},
		"BadProxy":   {"a proxy is a URL of a kind we speak", func(c *corev1b1.KubeFedCluster) { c.Spec.ProxyURL = "ftp://x" }, token, "spec.proxyURL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := cluster.RESTConfig(registration(tt.change), tt.secret)
			if !errors.Is(err, cluster.ErrMalformed) {
				t.Fatalf("%s: got %v, want ErrMalformed", tt.reason, err)
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), `"m1"`) {
				t.Errorf("%s: the error names the cluster and the field: got %v", tt.reason, err)
			}
		})
	}
}

// certificate makes a self-signed server certificate for a host name and a time.
func certificate(t *testing.T, host string, notBefore, notAfter time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestDisabledTLSValidations(t *testing.T) {
	now := time.Now()
	valid := func(host string) (tls.Certificate, []byte) {
		return certificate(t, host, now.Add(-time.Hour), now.Add(time.Hour))
	}
	expired := func(host string) (tls.Certificate, []byte) {
		return certificate(t, host, now.Add(-2*time.Hour), now.Add(-time.Hour))
	}
	tests := map[string]struct {
		reason   string
		issue    func(string) (tls.Certificate, []byte)
		host     string // in the certificate; the server listens on 127.0.0.1
		foreign  bool   // trust another CA
		disabled []corev1b1.TLSValidation
		accepted bool
	}{
		"Verified":            {"a good certificate is accepted", valid, "127.0.0.1", false, nil, true},
		"WrongName":           {"the name is checked", valid, "elsewhere", false, nil, false},
		"WrongCA":             {"the CA is checked", valid, "127.0.0.1", true, nil, false},
		"Expired":             {"the time is checked", expired, "127.0.0.1", false, nil, false},
		"NameOff":             {"SubjectName turns the name check off", valid, "elsewhere", false, []corev1b1.TLSValidation{corev1b1.TLSSubjectName}, true},
		"NameOffStillCA":      {"and nothing else", valid, "elsewhere", true, []corev1b1.TLSValidation{corev1b1.TLSSubjectName}, false},
		"NameOffStillTime":    {"and nothing else", expired, "elsewhere", false, []corev1b1.TLSValidation{corev1b1.TLSSubjectName}, false},
		"TimeOff":             {"ValidityPeriod turns the time check off", expired, "127.0.0.1", false, []corev1b1.TLSValidation{corev1b1.TLSValidityPeriod}, true},
		"TimeOffStillName":    {"and nothing else, also for an endpoint that is an address", expired, "elsewhere", false, []corev1b1.TLSValidation{corev1b1.TLSValidityPeriod}, false},
		"TimeOffStillCA":      {"and nothing else", expired, "127.0.0.1", true, []corev1b1.TLSValidation{corev1b1.TLSValidityPeriod}, false},
		"EverythingOff":       {"* turns all of it off", expired, "elsewhere", true, []corev1b1.TLSValidation{corev1b1.TLSAll}, true},
		"BothOffAcceptsTheCA": {"both together leave the CA check", expired, "elsewhere", true, []corev1b1.TLSValidation{corev1b1.TLSSubjectName, corev1b1.TLSValidityPeriod}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cert, ca := tt.issue(tt.host)
			if tt.foreign {
				_, ca = tt.issue(tt.host)
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer t" {
					w.WriteHeader(http.StatusUnauthorized)
				}
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
			server.StartTLS()
			defer server.Close()
			config, err := cluster.RESTConfig(registration(func(c *corev1b1.KubeFedCluster) {
				c.Spec.APIEndpoint = server.URL
				c.Spec.CABundle = ca
				c.Spec.DisabledTLSValidations = tt.disabled
			}), secret(map[string][]byte{"token": []byte("t")}))
			if err != nil {
				t.Fatal(err)
			}
			client, err := rest.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Get(server.URL)
			if err == nil {
				if err := response.Body.Close(); err != nil {
					t.Error(err)
				}
				if response.StatusCode != http.StatusOK {
					t.Errorf("the token is sent: got %s", response.Status)
				}
			}
			if accepted := err == nil; accepted != tt.accepted {
				t.Errorf("%s: accepted=%v (%v), want %v", tt.reason, accepted, err, tt.accepted)
			}
		})
	}
}
