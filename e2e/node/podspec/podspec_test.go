package podspec_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/config"
	"github.com/hansa-dev/hansa/e2e/node/podspec"
)

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		value, ok := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}[name]
		return value, ok
	}
	for _, test := range []struct{ reason, text, want string }{
		{"text without references stays", "plain", "plain"},
		{"a reference is replaced", "x$(A)y", "x1y"},
		{"several are", "$(A)$(A)", "11"},
		{"the value is not looked through again", "$(B)", "$(A)"},
		{"an empty value is a value", "[$(EMPTY)]", "[]"},
		{"an unknown reference stays", "$(NO)", "$(NO)"},
		{"two dollars are one, so that references can be written", "$$(A)", "$(A)"},
		{"three are one and a reference", "$$$(A)", "$1"},
		{"a dollar alone stays", "$ a$", "$ a$"},
		{"so does a reference that is not closed", "$(A", "$(A"},
		{"what a shell would expand is not ours", "${A} $A", "${A} $A"},
	} {
		if got := podspec.Expand(test.text, lookup); got != test.want {
			t.Errorf("%s: %q is %q, want %q", test.reason, test.text, got, test.want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("a$(B)$$(C)$(")
	f.Fuzz(func(t *testing.T, text string) {
		got := podspec.Expand(text, func(string) (string, bool) { return "", false })
		if !strings.Contains(text, "$$") && got != text {
			t.Errorf("without known variables %q has become %q", text, got)
		}
	})
}

func thePod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-0", Namespace: "shop", UID: "u1",
			Labels: map[string]string{"b": "2", "a": "1"}, Annotations: map[string]string{"note": "say \"hi\""},
		},
		Spec:   corev1.PodSpec{NodeName: "n1", ServiceAccountName: "sa", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{PodIP: "10.0.1.5", HostIP: "172.20.0.11"},
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func configMapKey(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
	}}
}

func secretKey(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
	}}
}

func TestEnvironment(t *testing.T) {
	objects := podspec.Objects{
		ConfigMaps: map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"A": "from cm", "1st": "x", "B": "b"}}},
		Secrets:    map[string]*corev1.Secret{"s": {Data: map[string][]byte{"A": []byte("from secret")}}},
	}
	fromConfigMap := func(name, prefix string, optional bool) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: &optional,
		}}
	}
	fromSecret := corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}
	for _, test := range []struct {
		reason string
		from   []corev1.EnvFromSource
		env    []corev1.EnvVar
		want   []string
		err    string
	}{
		{
			reason: "values refer to variables before them, and to no others",
			env:    []corev1.EnvVar{{Name: "X", Value: "$(Y)"}, {Name: "Y", Value: "1"}, {Name: "Z", Value: "$(Y)$(Y)"}},
			want:   []string{"X=$(Y)", "Y=1", "Z=11"},
		},
		{
			reason: "the order is that of the spec, and the last value counts",
			env:    []corev1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}, {Name: "B", Value: "3"}},
			want:   []string{"B=3", "A=2"},
		},
		{
			reason: "a ConfigMap gives its keys, unless they are no names of variables",
			from:   []corev1.EnvFromSource{fromConfigMap("cm", "", false)}, want: []string{"A=from cm", "B=b"},
		},
		{reason: "with a prefix", from: []corev1.EnvFromSource{fromConfigMap("cm", "P_", false)}, want: []string{"P_1st=x", "P_A=from cm", "P_B=b"}},
		{
			reason: "the later source counts, and what is set by name counts more",
			from:   []corev1.EnvFromSource{fromConfigMap("cm", "", false), fromSecret}, env: []corev1.EnvVar{{Name: "B", Value: "mine, $(A)"}},
			want: []string{"A=from secret", "B=mine, from secret"},
		},
		{reason: "a missing ConfigMap is an error", from: []corev1.EnvFromSource{fromConfigMap("no", "", false)}, err: `configmap "no" not found`},
		{reason: "unless it is optional", from: []corev1.EnvFromSource{fromConfigMap("no", "", true)}},
		{
			reason: "keys are picked",
			env:    []corev1.EnvVar{{Name: "X", ValueFrom: configMapKey("cm", "B", false)}, {Name: "Y", ValueFrom: secretKey("s", "A", false)}},
			want:   []string{"X=b", "Y=from secret"},
		},
		{reason: "a missing key is an error", env: []corev1.EnvVar{{Name: "X", ValueFrom: configMapKey("cm", "C", false)}}, err: "couldn't find key C in ConfigMap shop/cm"},
		{reason: "so is a missing secret", env: []corev1.EnvVar{{Name: "X", ValueFrom: secretKey("no", "C", false)}}, err: `secret "no" not found`},
		{reason: "optional ones are left out", env: []corev1.EnvVar{{Name: "X", ValueFrom: secretKey("s", "C", true)}, {Name: "Y", ValueFrom: configMapKey("no", "C", true)}}},
		{
			reason: "fields of the pod, the addresses included",
			env: []corev1.EnvVar{
				{Name: "IP", ValueFrom: fieldRef("status.podIP")},
				{Name: "HOST", ValueFrom: fieldRef("status.hostIP")},
				{Name: "NAME", ValueFrom: fieldRef("metadata.name")},
				{Name: "LABEL", ValueFrom: fieldRef("metadata.labels['a']")},
				{Name: "URL", Value: "http://$(IP):80"},
			},
			want: []string{"IP=10.0.1.5", "HOST=172.20.0.11", "NAME=web-0", "LABEL=1", "URL=http://10.0.1.5:80"},
		},
		{reason: "other fields are not offered", env: []corev1.EnvVar{{Name: "X", ValueFrom: fieldRef("spec.priority")}}, err: `fieldPath "spec.priority": field is not offered`},
	} {
		got, err := podspec.Environment(thePod(), &corev1.Container{EnvFrom: test.from, Env: test.env}, objects, nil)
		if test.err != "" || err != nil {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: the error is %v, want %s", test.reason, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got.List()); diff != "" {
			t.Errorf("%s: %s", test.reason, diff)
		}
	}
}

func TestField(t *testing.T) {
	for path, want := range map[string]string{
		"metadata.labels":               "a=\"1\"\nb=\"2\"",
		"metadata.annotations":          `note="say \"hi\""`,
		"metadata.annotations['note']":  `say "hi"`,
		"metadata.annotations['other']": "",
		"metadata.uid":                  "u1",
		"spec.nodeName":                 "n1",
		"spec.serviceAccountName":       "sa",
		"status.podIPs":                 "10.0.1.5",
	} {
		if got, err := podspec.Field(thePod(), path); got != want || err != nil {
			t.Errorf("%s is %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestResource(t *testing.T) {
	node := corev1.ResourceList{"cpu": resource.MustParse("16"), "memory": resource.MustParse("8Gi"), "ephemeral-storage": resource.MustParse("1Gi")}
	c := &corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("100Mi")},
		Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")},
	}}
	for _, test := range []struct{ reason, name, divisor, want string }{
		{"processors are rounded up", "limits.cpu", "1", "2"},
		{"in thousandths they need not be", "requests.cpu", "1m", "250"},
		{"memory is in bytes", "limits.memory", "", "104857600"},
		{"or in other units", "limits.memory", "1Mi", "100"},
		{"what is not requested is nothing", "requests.memory", "1", "0"},
		{"without a limit there is what the node has", "limits.ephemeral-storage", "1Mi", "1024"},
	} {
		ref := &corev1.ResourceFieldSelector{Resource: test.name}
		if test.divisor != "" {
			ref.Divisor = resource.MustParse(test.divisor)
		}
		if got, err := podspec.Resource(thePod(), c, ref, node); got != test.want || err != nil {
			t.Errorf("%s: %s/%s is %q, %v, want %q", test.reason, test.name, test.divisor, got, err, test.want)
		}
	}
	if _, err := podspec.Resource(thePod(), c, &corev1.ResourceFieldSelector{ContainerName: "x", Resource: "limits.cpu"}, node); err == nil {
		t.Error("a container that there is not has limits")
	}
}

func TestPlace(t *testing.T) {
	node := config.Config{
		Cluster: "m1", Name: "m1-n1",
		Labels: map[string]string{"topology.kubernetes.io/region": "north", "topology.kubernetes.io/zone": "north-a"},
	}
	want := []string{
		"CLUSTER=m1", "REGION=north", "ZONE=north-a", "NODE_NAME=m1-n1", "POD_NAME=web-0", "POD_NAMESPACE=shop", "POD_IP=10.0.1.5",
	}
	if diff := cmp.Diff(want, podspec.Place(node, thePod()).List()); diff != "" {
		t.Errorf("where a container runs (-want +got):\n%s", diff)
	}
}

func TestIgnored(t *testing.T) {
	const users, port = "runAsNonRoot and runAsUser are ignored", "hostPort 80 of container c is ignored"
	for _, test := range []struct {
		reason string
		change func(*corev1.PodSpec)
		want   []string
	}{
		{"a usual pod", func(*corev1.PodSpec) {}, nil},
		{"not as root", func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true)} }, []string{users}},
		{"as root, which it is", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(false), RunAsUser: new(int64)}
		}, nil},
		{"an init container as somebody", func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Name: "i", SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(1000))}}}
		}, []string{users}},
		{"everybody as somebody is said once", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1))}
			s.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsNonRoot: new(true)}
		}, []string{users}},
		{"a port of the node", func(s *corev1.PodSpec) {
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 80}, {ContainerPort: 9090}}
		}, []string{port}},
		{"one that the node's network has anyway", func(s *corev1.PodSpec) {
			s.HostNetwork = true
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}, nil},
	} {
		pod := thePod()
		test.change(&pod.Spec)
		got := podspec.Ignored(pod)
		if len(got) != len(test.want) || len(got) > 0 && !strings.HasPrefix(got[0], test.want[0]) {
			t.Errorf("%s: %q, want %q", test.reason, got, test.want)
		}
	}
}

func TestServiceVariables(t *testing.T) {
	service := func(namespace, name, ip string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "my-port", Port: 80, Protocol: corev1.ProtocolTCP}, {Port: 53, Protocol: corev1.ProtocolUDP}}},
		}
	}
	services := []*corev1.Service{
		service("default", "kubernetes", "10.96.0.1"), service("default", "other", "10.96.0.2"),
		service("shop", "my-db", "10.96.0.3"), service("shop", "headless", "None"), service("shop", "external", ""),
	}
	got := podspec.ServiceVariables(thePod(), services)
	for name, want := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "MY_DB_SERVICE_HOST": "10.96.0.3", "MY_DB_SERVICE_PORT": "80", "MY_DB_SERVICE_PORT_MY_PORT": "80",
		"MY_DB_PORT": "tcp://10.96.0.3:80", "MY_DB_PORT_80_TCP": "tcp://10.96.0.3:80", "MY_DB_PORT_53_UDP": "udp://10.96.0.3:53",
		"MY_DB_PORT_53_UDP_ADDR": "10.96.0.3", "MY_DB_PORT_53_UDP_PORT": "53", "MY_DB_PORT_53_UDP_PROTO": "udp",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "OTHER") || strings.HasPrefix(name, "HEADLESS") || strings.HasPrefix(name, "EXTERNAL") {
			t.Errorf("%s is about a service of another namespace, or one without an address", name)
		}
	}
	pod := thePod()
	pod.Spec.EnableServiceLinks = new(bool)
	got = podspec.ServiceVariables(pod, services)
	if got["KUBERNETES_SERVICE_HOST"] == "" || got["MY_DB_SERVICE_HOST"] != "" {
		t.Errorf("without links there is more or less than the API server: %v", got)
	}
}

func TestResolver(t *testing.T) {
	dns := podspec.DNS{
		Server: netip.MustParseAddr("10.96.0.10"), Domain: "cluster.local",
		Node: podspec.Resolver{Servers: []string{"192.0.2.53"}, Searches: []string{"example.org"}, Options: []string{"timeout:1"}},
	}
	extra := &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.1"}, Searches: []string{"more.example", "cluster.local"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "rotate"}},
	}
	const cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org"
	for _, test := range []struct {
		reason string
		policy corev1.DNSPolicy
		config *corev1.PodDNSConfig
		host   bool
		want   string
	}{
		{reason: "the cluster's resolver is usual", policy: corev1.DNSClusterFirst, want: cluster + "\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{
			reason: "the pod may add to it, and its options replace others", policy: corev1.DNSClusterFirst, config: extra,
			want: cluster + " more.example\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:2 rotate\n",
		},
		{reason: "the node's resolver", policy: corev1.DNSDefault, want: "search example.org\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{reason: "nothing but the pod's own", policy: corev1.DNSNone, config: extra, want: "search more.example cluster.local\nnameserver 192.0.2.1\noptions ndots:2 rotate\n"},
		{reason: "in the node's network the node's resolver is usual", policy: corev1.DNSClusterFirst, host: true, want: "search example.org\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{reason: "unless asked for otherwise", policy: corev1.DNSClusterFirstWithHostNet, host: true, want: cluster + "\nnameserver 10.96.0.10\noptions ndots:5\n"},
	} {
		pod := thePod()
		pod.Spec.DNSPolicy, pod.Spec.DNSConfig, pod.Spec.HostNetwork = test.policy, test.config, test.host
		if got := dns.Resolver(pod).String(); got != test.want {
			t.Errorf("%s: resolv.conf is\n%swant\n%s", test.reason, got, test.want)
		}
	}
}

func TestHosts(t *testing.T) {
	dns := podspec.DNS{Domain: "cluster.local"}
	pod := thePod()
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a.example", "b.example"}}}
	hosts := dns.Hosts(pod, "10.0.1.5")
	for _, line := range []string{"127.0.0.1\tlocalhost\n", "\n10.0.1.5\tweb-0\n", "\n192.0.2.7\ta.example\tb.example\n"} {
		if !strings.Contains(hosts, line) {
			t.Errorf("%q is not in\n%s", line, hosts)
		}
	}
	pod.Spec.Hostname, pod.Spec.Subdomain = "first", "db"
	if hosts = dns.Hosts(pod, "10.0.1.5"); !strings.Contains(hosts, "\n10.0.1.5\tfirst.db.shop.svc.cluster.local\tfirst\n") {
		t.Errorf("a pod in a subdomain does not know its name:\n%s", hosts)
	}
	pod.Spec.Hostname = ""
	pod.Name = strings.Repeat("x", 62) + "-" + strings.Repeat("y", 62)
	if got := podspec.Hostname(pod); got != strings.Repeat("x", 62) {
		t.Errorf("the hostname of a pod with a long name is %q: it must have at most 63 characters and not end with a dash", got)
	}
}

func TestImages(t *testing.T) {
	table := []config.Image{
		{Name: "echo", Command: []string{"/opt/programs/workload", "echo"}},
		{Name: "echo-*", Command: []string{"/opt/programs/workload", "echo", "--old"}},
		{Name: "shell", Command: []string{"/bin/sh"}},
	}
	for image, want := range map[string]string{
		"echo": "echo", "echo:1.2": "echo", "registry.example:5000/team/echo:1@sha256:abc": "echo", "echo-two": "echo-*", "shell": "shell", "echoes": "", "nginx:1": "",
	} {
		got, ok := podspec.FindImage(table, image)
		if got.Name != want || ok != (want != "") {
			t.Errorf("image %s is %q, want %q", image, got.Name, want)
		}
	}
	if got, want := podspec.Programs(table), map[string]string{"workload": "/opt/programs/workload"}; !cmp.Equal(got, want) {
		t.Errorf("the programs are %v, want %v", got, want)
	}
	v := &podspec.Variables{}
	v.Set("PORT", "80")
	for _, test := range []struct {
		reason        string
		command, args []string
		image         config.Image
		want          []string
	}{
		{"the image's command, where the container finds it", nil, nil, table[0], []string{"/lab/workload", "echo"}},
		{"arguments follow it", nil, []string{"--port=$(PORT)"}, table[0], []string{"/lab/workload", "echo", "--port=80"}},
		{"the container's command replaces it", []string{"run", "$(PORT)"}, []string{"x"}, table[0], []string{"run", "80", "x"}},
		{"programs of the system stay where they are", nil, []string{"-c", "true"}, table[2], []string{"/bin/sh", "-c", "true"}},
	} {
		c := &corev1.Container{Command: test.command, Args: test.args}
		if got := podspec.Command(c, test.image, v); !cmp.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.reason, got, test.want)
		}
	}
	if table[0].Command[0] != "/opt/programs/workload" {
		t.Error("the table has changed")
	}
}
