// Package translate says what clients are told about global services: functions from a clusterset.Snapshot to messages of
// xDS. They decide and do nothing else.
//
// A Client stands for all clients of one flavour in one cluster and zone. What it is told of a service comes in two
// parts. Fixed depends on the service's properties, policy and addresses, which seldom change; Moving is what depends on
// endpoints.
//
//	            gRPC                                 proxy (Envoy, MOSN)
//	listener    by target, RDS over ADS              per ClusterSetIP and port: TCP, or HTTP by appProtocol
//	            again under xdstp://clusterset.local one more takes redirected connections, one TLS from other networks
//	route       one virtual host for everything      the same, with mirroring, for HTTP ports
//	cluster     EDS over ADS                         the same, with TLS for endpoints that are gateways;
//	                                                 and one per exported port, of local endpoints
//	endpoints   in priorities                        the same, gateways marked
//
// Agents get one servicepb.Service for each service instead.
//
// A policy names other clusters' endpoints, or other services, as destinations. Each such part becomes a cluster and an
// assignment of its own, made with the service whose policy it is: so nothing refers to what is not there. gRPC clients
// would wait for it.
//
// What a gRPC client would refuse (NACK), and what keeps it from happening:
//
//	priorities with gaps, duplicate addresses,     the table never makes them
//	weights of 0, sums above 32 bits
//	two localities of one name in a priority       the cluster is the sub-zone
//	transport_socket_matches                       proxies only
//	load balancing it does not know (Random)       round robin
//	weighted clusters that sum to 0                a route that fails its requests
//	regular expressions that do not compile        a match that never holds, as is one for methods that gRPC does not use
//	retries without attempts or backoff            left out, or made to be
//
// Where a policy still makes something that the protos' validators refuse, the service is told without that part of its
// policy, and an error says so.
//
// What a proxy has to bring, and what it does not get:
//
//	secrets     its bootstrap defines CertificateSecret and AuthoritySecret, for TLS with gateways of other networks
//	redirects   connections to ClusterSetIPs have to be redirected to OutboundPort
//	TLS         the east-west listener passes it on: the endpoint ends it, and speaks for itself
//	headless    services have no ClusterSetIP, so they have no outbound listener
//	UDP, SCTP   are not proxied; agents are told of such ports
//
// Where the client's own cluster has a gateway with a port for the service, that stands for all clusters on other networks: it
// takes whatever a client sends, in TLS or not, so it is an endpoint like a pod. Without one, a client gets the gateways of other
// networks as they are, as far as they pass the service on: a gRPC client reaches them if it speaks TLS with their server name,
// and goes on to what else there is if not.
//
// No proxy runs in this project's tests: what proxies are told is checked by the protos' validators and by
// go-control-plane's consistency checks, and against what their documentation asks for.
package translate
