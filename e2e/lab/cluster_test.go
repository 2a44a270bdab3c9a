package lab_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hansa-dev/hansa/e2e/lab"
)

func prepared(t *testing.T, name string, index int) lab.Cluster {
	t.Helper()
	c, err := lab.MakeCluster(name, index, filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Address(); err != nil {
		t.Fatal(err)
	}
	return c
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificates(t *testing.T) {
	hub, m1 := prepared(t, "hub", 0), prepared(t, "m1", 1)
	tests := map[string]struct {
		reason   string
		cert, ca string
		use      x509.ExtKeyUsage
		wantErr  bool
	}{
		"Admin":         {"the administrator is a client", hub.PKI("admin.crt"), hub.PKI("ca.crt"), x509.ExtKeyUsageClientAuth, false},
		"Server":        {"the API server serves", hub.PKI("apiserver.crt"), hub.PKI("ca.crt"), x509.ExtKeyUsageServerAuth, false},
		"AdminServes":   {"a client's certificate is not for serving", hub.PKI("admin.crt"), hub.PKI("ca.crt"), x509.ExtKeyUsageServerAuth, true},
		"EtcdClient":    {"the API server is etcd's client", hub.PKI("etcd-client.crt"), hub.PKI("etcd-ca.crt"), x509.ExtKeyUsageClientAuth, false},
		"AdminAtEtcd":   {"nobody passes the API server by", hub.PKI("admin.crt"), hub.PKI("etcd-ca.crt"), x509.ExtKeyUsageClientAuth, true},
		"AdminAtM1":     {"the hub's administrator is nobody in m1", hub.PKI("admin.crt"), m1.PKI("ca.crt"), x509.ExtKeyUsageClientAuth, true},
		"ServerOfOther": {"m1 cannot be taken for the hub", m1.PKI("apiserver.crt"), hub.PKI("ca.crt"), x509.ExtKeyUsageServerAuth, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(certificate(t, tc.ca))
			_, err := certificate(t, tc.cert).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.use}})
			if (err != nil) != tc.wantErr {
				t.Errorf("%s: Verify: error %v, want one: %t", tc.reason, err, tc.wantErr)
			}
		})
	}
	admin := certificate(t, hub.PKI("admin.crt"))
	if diff := cmp.Diff([]string{"system:masters"}, admin.Subject.Organization); diff != "" {
		t.Errorf("groups of the administrator: -want +got:\n%s", diff)
	}
	if err := certificate(t, m1.PKI("apiserver.crt")).VerifyHostname("10.97.0.1"); err != nil {
		t.Errorf("the API server's address inside the cluster: %v", err)
	}
}

func TestSecretsAreTheOwners(t *testing.T) {
	c := prepared(t, "hub", 0)
	dir := filepath.Dir(filepath.Dir(c.PKI("ca.key")))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s: others can read it", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingListensOutside reads the flags: all addresses are 127.0.0.1, and etcd asks for certificates.
func TestNothingListensOutside(t *testing.T) {
	c := prepared(t, "m1", 1)
	address := regexp.MustCompile(`=(https?://[^,]+)`)
	for _, component := range lab.Components() {
		flags := c.Flags(component)
		for _, flag := range flags {
			match := address.FindStringSubmatch(flag)
			if match == nil || strings.HasPrefix(flag, "--service-account-issuer=") {
				continue
			}
			u, err := url.Parse(match[1])
			if err != nil {
				t.Fatal(err)
			}
			if host, _, err := net.SplitHostPort(u.Host); err != nil || host != "127.0.0.1" || u.Scheme != "https" {
				t.Errorf("%s: %s is not an https address of 127.0.0.1", component, flag)
			}
		}
	}
	for component, flag := range map[lab.Component]string{
		lab.Etcd:              "--client-cert-auth",
		lab.APIServer:         "--anonymous-auth=false",
		lab.ControllerManager: "--secure-port=0",
		lab.Scheduler:         "--secure-port=0",
	} {
		if !slices.Contains(c.Flags(component), flag) {
			t.Errorf("%s has no %s", component, flag)
		}
	}
}

func TestKubeconfigs(t *testing.T) {
	c := prepared(t, "m1", 1)
	for component, user := range map[lab.Component]string{
		lab.ControllerManager: "system:kube-controller-manager",
		lab.Scheduler:         "system:kube-scheduler",
	} {
		config, err := clientcmd.BuildConfigFromFlags("", c.UserKubeconfig(component))
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != c.URL() {
			t.Errorf("%s talks to %s, want %s", component, config.Host, c.URL())
		}
		block, _ := pem.Decode(config.CertData)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != user {
			t.Errorf("%s is user %s, want %s", component, cert.Subject.CommonName, user)
		}
	}
}

func TestFormatGates(t *testing.T) {
	got := lab.FormatGates(map[string]bool{"B": false, "A": true})
	if want := "A=true,B=false"; got != want {
		t.Errorf("FormatGates: %q, want %q", got, want)
	}
}
