package addons

import (
	_ "embed"
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// Names of the objects that are a cluster's DNS, as clusters in the wild have them.
const (
	Namespace  = metav1.NamespaceSystem // of all of them
	DNSName    = "coredns"              // of the Deployment, the ConfigMap and the ServiceAccount
	DNSService = "kube-dns"
	DNSImage   = "coredns"  // the image of the Pods, which the lab's nodes know
	CorefileIn = "Corefile" // the key of the ConfigMap
)

// Ports on which a Pod of the cluster's DNS serves.
const (
	dnsPort     = 53
	healthPort  = 8080
	readyPort   = 8181
	metricsPort = 9153
)

// clusterSetPort is that of the server that CoreDNS asks for names of the cluster set; agents have it by default.
const clusterSetPort = 15053

// clusterSetEnv is the variable in which CoreDNS finds the address of that server.
const clusterSetEnv = "CLUSTERSET_DNS"

// ClusterSetDNS is where CoreDNS of a cluster asks for names of the cluster set, over UDP and TCP: on the first node.
// Whoever wants to answer listens there.
func ClusterSetDNS(cluster int) netip.AddrPort {
	return netip.AddrPortFrom(network.NodeIP(cluster, 1), clusterSetPort)
}

// dnsRole is the name of the ClusterRole of the cluster's DNS.
const dnsRole = "system:coredns"

// Corefile is the configuration of CoreDNS, the same in every cluster.
//
//go:embed Corefile
var Corefile string

func dnsObjects(cluster int) []client.Object {
	named := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: Namespace, Name: name, Labels: dnsLabels()}
	}
	return []client.Object{
		&corev1.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: named(DNSName)},
		&rbacv1.ClusterRole{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "ClusterRole"),
			ObjectMeta: metav1.ObjectMeta{Name: dnsRole},
			Rules: []rbacv1.PolicyRule{
				allow("", []string{"namespaces", "services"}, "list", "watch"),
				allow("discovery.k8s.io", []string{"endpointslices"}, "list", "watch"),
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Name: dnsRole},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacGroup, Kind: "ClusterRole", Name: dnsRole},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: Namespace, Name: DNSName}},
		},
		&corev1.ConfigMap{
			TypeMeta:   kind("v1", "ConfigMap"),
			ObjectMeta: named(DNSName),
			Data:       map[string]string{CorefileIn: Corefile},
		},
		&corev1.Service{
			TypeMeta:   kind("v1", "Service"),
			ObjectMeta: named(DNSService),
			Spec: corev1.ServiceSpec{
				ClusterIP: network.DNSIP(cluster).String(),
				Selector:  dnsSelector(),
				Ports: []corev1.ServicePort{
					{Name: "dns", Protocol: corev1.ProtocolUDP, Port: dnsPort},
					{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: dnsPort},
					{Name: "metrics", Protocol: corev1.ProtocolTCP, Port: metricsPort},
				},
			},
		},
		&appsv1.Deployment{
			TypeMeta:   kind("apps/v1", "Deployment"),
			ObjectMeta: named(DNSName),
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(1)),
				Selector: &metav1.LabelSelector{MatchLabels: dnsSelector()},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: dnsSelector()},
					Spec:       dnsPod(cluster),
				},
			},
		},
	}
}

func dnsPod(cluster int) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName: DNSName,
		PriorityClassName:  "system-cluster-critical",
		DNSPolicy:          corev1.DNSDefault, // not itself
		Volumes: []corev1.Volume{{
			Name: "config",
			VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: DNSName},
				Items:                []corev1.KeyToPath{{Key: CorefileIn, Path: CorefileIn}},
			}},
		}},
		Containers: []corev1.Container{{
			Name:  "coredns",
			Image: DNSImage,
			Args:  []string{"-conf", "/etc/coredns/" + CorefileIn},
			Env: []corev1.EnvVar{
				{Name: "GOGC", Value: "30"}, // it answers a lab; there is one in every cluster
				{Name: clusterSetEnv, Value: ClusterSetDNS(cluster).String()},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns", ReadOnly: true}},
			Ports: []corev1.ContainerPort{
				{Name: "dns", ContainerPort: dnsPort, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", ContainerPort: dnsPort, Protocol: corev1.ProtocolTCP},
				{Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP},
			},
			// Ready once it has read the API, and looked at every second: a lab waits for its DNS.
			ReadinessProbe: &corev1.Probe{ProbeHandler: httpGet("/ready", readyPort), PeriodSeconds: 1},
			LivenessProbe: &corev1.Probe{
				ProbeHandler:     httpGet("/health", healthPort),
				TimeoutSeconds:   5,
				FailureThreshold: 5,
			},
		}},
	}
}

func httpGet(path string, port int32) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}}
}

// dnsSelector finds the Pods.
func dnsSelector() map[string]string { return map[string]string{"k8s-app": DNSService} }

// dnsLabels are those by which tools find a cluster's DNS.
func dnsLabels() map[string]string {
	labels := dnsSelector()
	labels["kubernetes.io/name"] = "CoreDNS"
	return labels
}
