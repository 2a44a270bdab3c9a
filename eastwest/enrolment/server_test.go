package enrolment_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// from returns the context of a call from an address.
func from(address string) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 4711}})
}

func codeOf(_ *enrolmentpb.Certificate, err error) string { return status.Code(err).String() }

func csr(t *testing.T) []byte {
	t.Helper()
	return requestFor(t, ecdsaKey(t, elliptic.P256()), &x509.CertificateRequest{})
}

func byToken(t *testing.T, text string) *enrolmentpb.EnrollRequest {
	t.Helper()
	return &enrolmentpb.EnrollRequest{Request: csr(t), Role: "gateway", Proof: &enrolmentpb.EnrollRequest_JoinToken{JoinToken: text}}
}

func byAccount(t *testing.T, cluster, text string) *enrolmentpb.EnrollRequest {
	t.Helper()
	return &enrolmentpb.EnrollRequest{
		Request: csr(t), Role: "gateway", Cluster: cluster, Proof: &enrolmentpb.EnrollRequest_ServiceAccountToken{ServiceAccountToken: text},
	}
}

// TestEnroll asks for certificates. What is refused must not wear out a token.
func TestEnroll(t *testing.T) {
	type ask = func(t *testing.T, h *hub, token string) *enrolmentpb.EnrollRequest
	with := func(change func(r *enrolmentpb.EnrollRequest)) ask {
		return func(t *testing.T, _ *hub, token string) *enrolmentpb.EnrollRequest {
			t.Helper()
			request := byToken(t, token)
			change(request)
			return request
		}
	}
	account := func(cluster, token string) ask {
		return func(t *testing.T, _ *hub, _ string) *enrolmentpb.EnrollRequest { return byAccount(t, cluster, token) }
	}
	none := func(*enrolmentpb.EnrollRequest) {}
	for name, tc := range map[string]struct {
		reason  string
		options func(*enrolment.Options)
		before  func(t *testing.T, h *hub, token string)
		ask     ask
		id      string // of who gets a certificate
		code    string
		message string
		outcome string
		used    bool // whether the token is worn out
	}{
		"Token":        {reason: "The usual case.", ask: with(none), id: "spiffe://clusterset.local/cluster/m1/gateway", outcome: "given", used: true},
		"Named":        {reason: "It may say for which cluster it is.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Cluster = "m1.example" }), id: "spiffe://clusterset.local/cluster/m1/gateway", outcome: "given", used: true},
		"DNS":          {reason: "Another role.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Role = "dns" }), id: "spiffe://clusterset.local/cluster/m1/dns", outcome: "given", used: true},
		"Account":      {reason: "The cluster vouches for it.", ask: account("m1.example", goodToken+" in m1.example"), id: "spiffe://clusterset.local/cluster/m1/gateway", outcome: "given"},
		"OtherCluster": {reason: "A token is for one cluster.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Cluster = "m2.example" }), code: "PermissionDenied", message: "another cluster", outcome: "denied"},
		"RoleHub":      {reason: "Nobody becomes a hub.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Role = "hub" }), code: "PermissionDenied", message: "no such role", outcome: "denied"},
		"RoleAdmin":    {reason: "Nobody becomes an admin.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Role = "admin" }), code: "PermissionDenied", message: "no such role", outcome: "denied"},
		"RoleNone":     {reason: "It has to say.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Role = "" }), code: "PermissionDenied", message: "no such role", outcome: "denied"},
		"LongName":     {reason: "No name of an object.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Cluster = strings.Repeat("a", 254) }), code: "InvalidArgument", message: "too long", outcome: "bad_request"},
		"BadRequest":   {reason: "Nothing to sign.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Request = []byte("x") }), code: "InvalidArgument", message: "PKCS #10", outcome: "bad_request"},
		"OtherIdentity": {reason: "It asks to be an admin.", ask: with(func(r *enrolmentpb.EnrollRequest) {
			r.Request = requestFor(t, ecdsaKey(t, elliptic.P256()), &x509.CertificateRequest{URIs: uris(t, "spiffe://clusterset.local/admin")})
		}), code: "PermissionDenied", message: "what is proved is", outcome: "denied"},
		"NoProof": {reason: "Anybody could ask.", ask: with(func(r *enrolmentpb.EnrollRequest) { r.Proof = nil }), code: "PermissionDenied", message: "no proof", outcome: "denied"},
		"WrongSecret": {reason: "The ID is not secret.", ask: func(t *testing.T, _ *hub, token string) *enrolmentpb.EnrollRequest {
			return byToken(t, token[:len(token)-1]+other(token))
		}, code: "Unauthenticated", message: "not known, was used, or has ended", outcome: "bad_token"},
		"NoToken": {reason: "No such token; the answer is the same.", ask: func(t *testing.T, _ *hub, token string) *enrolmentpb.EnrollRequest {
			return byToken(t, "aaaaaaaaaa"+token[10:])
		}, code: "Unauthenticated", message: "not known, was used, or has ended", outcome: "bad_token"},
		"Rubbish": {reason: "No token at all.", ask: func(t *testing.T, _ *hub, _ string) *enrolmentpb.EnrollRequest { return byToken(t, "../hansa-ca") }, code: "Unauthenticated", message: "not known, was used, or has ended", outcome: "bad_token"},
		"Ended":   {reason: "An hour is over.", options: func(o *enrolment.Options) { o.Tokens.Now = func() time.Time { return time.Now().Add(time.Hour) } }, ask: with(none), code: "Unauthenticated", message: "not known, was used, or has ended", outcome: "bad_token"},
		"NoExpiry": {reason: "Somebody changed it.", before: func(t *testing.T, h *hub, token string) {
			secret := tokenSecret(t, h.host, token)
			delete(secret.Data, "expires")
			update(t, h, secret)
		}, ask: with(none), code: "Unauthenticated", message: "not known", outcome: "bad_token"},
		"OtherSecret": {reason: "A Secret of somebody else with that name.", before: func(t *testing.T, h *hub, token string) {
			secret := tokenSecret(t, h.host, token)
			secret.Type = "Opaque"
			update(t, h, secret)
		}, ask: with(none), code: "Unauthenticated", message: "not known", outcome: "bad_token"},
		"Finalizers": {reason: "It could be deleted twice.", before: func(t *testing.T, h *hub, token string) {
			secret := tokenSecret(t, h.host, token)
			secret.Finalizers = []string{"example.org/wait"}
			update(t, h, secret)
		}, ask: with(none), code: "Unauthenticated", message: "not known", outcome: "bad_token"},
		"Left":           {reason: "The cluster has left since the token was made.", before: func(_ *testing.T, h *hub, _ string) { delete(h.members, "m1.example") }, ask: with(none), code: "Unavailable", message: "is not joined", outcome: "unavailable"},
		"NoTokens":       {reason: "A hub that takes none.", options: func(o *enrolment.Options) { o.Tokens = nil }, ask: with(none), code: "PermissionDenied", message: "takes no join tokens", outcome: "denied"},
		"AccountBad":     {reason: "The cluster does not know it.", ask: account("m1.example", "x"), code: "Unauthenticated", message: "audience", outcome: "bad_token"},
		"AccountElse":    {reason: "The token of another cluster's agent.", ask: account("m2.example", goodToken+" in m1.example"), code: "Unauthenticated", message: "not good", outcome: "bad_token"},
		"AccountOther":   {reason: "A pod of somebody else in the cluster.", ask: account("m1.example", "other"), code: "PermissionDenied", message: "another account", outcome: "denied"},
		"AccountAway":    {reason: "Its API server does not answer: what went wrong is in the log, not in the answer.", ask: account("m1.example", "broken"), code: "Unavailable", message: "could not ask the API server of the cluster: try again", outcome: "unavailable"},
		"AccountUnknown": {reason: "Nobody is asked for a stranger.", ask: account("m9.example", goodToken+" in m9.example"), code: "Unauthenticated", message: "not good", outcome: "bad_token"},
		"AccountUnnamed": {reason: "Whom should the hub ask?", ask: account("", goodToken+" in m1.example"), code: "PermissionDenied", message: "has to be named", outcome: "denied"},
		"NoAccounts":     {reason: "A hub that takes none.", options: func(o *enrolment.Options) { o.Reviewer = nil }, ask: account("m1.example", goodToken+" in m1.example"), code: "PermissionDenied", message: "takes no tokens of ServiceAccounts", outcome: "denied"},
		"NoAuthority":    {reason: "The hub has just started.", options: func(o *enrolment.Options) { o.Issuer = identity.NewServer(identity.ServerOptions{}) }, ask: with(none), code: "Unavailable", message: "cannot sign", outcome: "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			h, stop := newHub(t, func(o *enrolment.Options) {
				o.Log = funcr.New(func(_, args string) { log.WriteString(args + "\n") }, funcr.Options{Verbosity: 9})
				if tc.options != nil {
					tc.options(o)
				}
			})
			token := h.token("m1.example")
			if tc.before != nil {
				tc.before(t, h, token)
			}
			request := tc.ask(t, h, token)
			answer, err := h.server.Enroll(from("192.0.2.1"), request)
			stop()
			switch {
			case tc.id == "" && (status.Code(err).String() != tc.code || !strings.Contains(status.Convert(err).Message(), tc.message)):
				t.Errorf("%s\ngot %v, want %s with %q", tc.reason, err, tc.code, tc.message)
			case tc.id != "" && err != nil:
				t.Errorf("%s\n%v", tc.reason, err)
			case tc.id != "":
				checkAnswer(t, h, request, answer, tc.id)
			}
			err = h.host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: enrolment.TokenPrefix + token[:10]}, &corev1.Secret{})
			if used := err != nil; used != tc.used {
				t.Errorf("%s\nthe token is worn out: %t, want %t", tc.reason, used, tc.used)
			}
			var labels []string
			for label, n := range outcomes(t, h.server.Collectors()...) {
				if n > 0 {
					labels = append(labels, label)
				}
			}
			if len(labels) != 1 || !strings.Contains(" "+labels[0]+" ", " "+tc.outcome+" ") {
				t.Errorf("%s\ncounted as %q, want %q", tc.reason, labels, tc.outcome)
			}
			if text := log.String(); strings.Count(text, "192.0.2.1") != 1 || strings.Contains(text, token[11:]) || strings.Contains(text, goodToken) {
				t.Errorf("the log does not say who asked, or has a token:\n%s", text)
			}
		})
	}
}

// other returns a character that is not the last one.
func other(token string) string {
	if strings.HasSuffix(token, "a") {
		return "b"
	}
	return "a"
}

func update(t *testing.T, h *hub, object client.Object) {
	t.Helper()
	if err := h.host.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func checkAnswer(t *testing.T, h *hub, request *enrolmentpb.EnrollRequest, answer *enrolmentpb.Certificate, want string) {
	t.Helper()
	var chain []*x509.Certificate
	for rest := answer.GetChain(); len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	bundle := rootsOf(t, answer)
	id, _, err := x509svid.Verify(chain, bundle)
	asked, parseErr := enrolment.ParseRequest(request.GetRequest())
	if err := errors.Join(err, parseErr); err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	if id.String() != want || string(answer.GetRoots()) != string(h.who.BundlePEM()) || answer.GetTrustDomain() != "clusterset.local" {
		t.Errorf("for %s of %s", id, answer.GetTrustDomain())
	}
	if life := leaf.NotAfter.Sub(identity.Signed(leaf)); life != identity.Lifetime {
		t.Errorf("it is good for %s", life)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) > 0 || !equalKeys(leaf.PublicKey, asked.Public) {
		t.Errorf("it is for %v, %v, or another key", leaf.DNSNames, leaf.IPAddresses)
	}
}

func rootsOf(t *testing.T, answer *enrolmentpb.Certificate) *x509bundle.Bundle {
	t.Helper()
	bundle, err := x509bundle.Parse(identity.DefaultTrustDomain(), answer.GetRoots())
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func equalKeys(a, b any) bool {
	key, ok := a.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && key.Equal(b)
}

// stateOf is how a hub sees a connection with a certificate that it verified.
func stateOf(leaf *x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
}

// showing returns the context of a call by who shows a certificate.
func showing(leaf *x509.Certificate) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{
		Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 3), Port: 4711}, AuthInfo: credentials.TLSInfo{State: stateOf(leaf)},
	})
}

// TestLimits: who asks too often is refused, others are not; and so much at a time.
func TestLimits(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	var once sync.Once
	h, stop := newHub(t, func(o *enrolment.Options) {
		o.Limits = enrolment.Limits{Calls: 2, Burst: 3, Interval: time.Hour}
		o.Reviewer = enrolment.TokenReviewerFunc(func(ctx context.Context, _, _ string, _ []string) (string, string, error) {
			entered <- struct{}{}
			select {
			case <-leave:
			case <-ctx.Done():
			}
			return account, "u1", nil
		})
	})
	defer stop()
	defer once.Do(func() { close(leave) })
	for i, want := range []string{"Unauthenticated", "Unauthenticated", "Unauthenticated", "ResourceExhausted"} {
		if got := codeOf(h.server.Enroll(from("192.0.2.1"), byToken(t, "x"))); got != want {
			t.Errorf("call %d: %s, want %s", i, got, want)
		}
	}
	var slow sync.WaitGroup
	for range 2 {
		slow.Go(func() {
			if _, err := h.server.Enroll(from("192.0.2.2"), byAccount(t, "m1.example", "x")); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	if got := codeOf(h.server.Enroll(from("192.0.2.3"), byAccount(t, "m1.example", "x"))); got != "ResourceExhausted" {
		t.Errorf("a third at a time: %s", got)
	}
	who := identity.ClusterID(identity.DefaultTrustDomain(), "m1", identity.RoleGateway)
	if _, err := h.server.Renew(showing(certificateOf(t, h, who).Leaf), &enrolmentpb.RenewRequest{Request: csr(t)}); err != nil {
		t.Errorf("strangers keep out who has a certificate: %v", err)
	}
	once.Do(func() { close(leave) })
	slow.Wait()
	if got := codeOf(h.server.Enroll(from("192.0.2.3"), byAccount(t, "m1.example", "x"))); got != "OK" {
		t.Errorf("after the others are done: %s", got)
	}
}

// TestTimeout: an API server that never answers holds nobody up for longer than the limit.
func TestTimeout(t *testing.T) {
	h, stop := newHub(t, func(o *enrolment.Options) {
		o.Limits.Timeout = 10 * time.Millisecond
		o.Reviewer = enrolment.TokenReviewerFunc(func(ctx context.Context, _, _ string, _ []string) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		})
	})
	defer stop()
	if got := codeOf(h.server.Enroll(from("192.0.2.1"), byAccount(t, "m1.example", "x"))); got != "Unavailable" {
		t.Errorf("got %s", got)
	}
}

// TestOversized sends what no agent sends, through the real server.
func TestOversized(t *testing.T) {
	h, stop := newHub(t, nil)
	defer stop()
	conn, err := grpc.NewClient("passthrough:///hub:15012", grpc.WithContextDialer(h.dial),
		grpc.WithTransportCredentials(credentials.NewTLS(identity.HubClient{Roots: rootsOf(t, &enrolmentpb.Certificate{Roots: h.who.BundlePEM()})}.Config())))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	request := byToken(t, strings.Repeat("a", 65<<10))
	if got := codeOf(enrolmentpb.Enroll(t.Context(), conn, request)); got != "ResourceExhausted" {
		t.Errorf("65 KiB: %s", got)
	}
	if got := codeOf(enrolmentpb.Renew(t.Context(), conn, &enrolmentpb.RenewRequest{Request: csr(t)})); got != "Unimplemented" {
		t.Errorf("renewing at the port where nobody shows a certificate: %s", got)
	}
	if got := codeOf(enrolmentpb.Enroll(t.Context(), conn, byToken(t, h.token("m1.example")))); got != "OK" {
		t.Errorf("after that: %s", got)
	}
}

// TestRenew: whoever shows a certificate gets the same identity, and nothing else.
func TestRenew(t *testing.T) {
	td := identity.DefaultTrustDomain()
	for name, tc := range map[string]struct {
		reason  string
		who     identity.ID
		refused error // of Identify
		request func(t *testing.T) []byte
		code    string
	}{
		"Gateway": {reason: "The usual case.", who: identity.ClusterID(td, "m1", identity.RoleGateway), code: "OK"},
		"Itself": {reason: "It may say who it is.", who: identity.ClusterID(td, "m1", identity.RoleGateway), code: "OK", request: func(t *testing.T) []byte {
			return requestFor(t, ecdsaKey(t, elliptic.P256()), &x509.CertificateRequest{URIs: uris(t, m1)})
		}},
		"OtherCluster": {reason: "It stays in its cluster.", who: identity.ClusterID(td, "m2", identity.RoleGateway), code: "PermissionDenied", request: func(t *testing.T) []byte {
			return requestFor(t, ecdsaKey(t, elliptic.P256()), &x509.CertificateRequest{URIs: uris(t, m1)})
		}},
		"Client":  {reason: "The hub makes those of clients itself.", who: identity.ClusterID(td, "m1", identity.RoleClient), code: "PermissionDenied"},
		"Admin":   {reason: "An admin's is for a day.", who: identity.AdminID(td), code: "PermissionDenied"},
		"Hub":     {reason: "A hub does not ask.", who: identity.HubID(td), code: "PermissionDenied"},
		"Left":    {reason: "Its cluster has left, or has another id now.", who: identity.ClusterID(td, "gone", identity.RoleGateway), code: "PermissionDenied"},
		"Revoked": {reason: "It is not good any more.", refused: errors.New("revoked"), code: "Unauthenticated"},
		"Rubbish": {reason: "Nothing to sign.", who: identity.ClusterID(td, "m1", identity.RoleGateway), code: "InvalidArgument", request: func(*testing.T) []byte { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			h, stop := newHub(t, func(o *enrolment.Options) {
				o.Identify = func(*peer.Peer) (identity.ID, error) { return tc.who, tc.refused }
				o.Joined = func(id string) bool { return id == "m1" || id == "m2" }
			})
			defer stop()
			request := &enrolmentpb.RenewRequest{}
			if tc.request != nil {
				request.Request = tc.request(t)
			} else {
				request.Request = csr(t)
			}
			answer, err := h.server.Renew(showing(certificateOf(t, h, identity.ClusterID(td, "m1", identity.RoleGateway)).Leaf), request)
			if got := status.Code(err).String(); got != tc.code {
				t.Fatalf("%s\ngot %v, want %s", tc.reason, err, tc.code)
			}
			if err == nil {
				checkAnswer(t, h, &enrolmentpb.EnrollRequest{Request: request.Request}, answer, tc.who.String())
			}
		})
	}
}

// TestReview asks an API server about a token.
func TestReview(t *testing.T) {
	user := authv1.UserInfo{Username: account, UID: "u1"}
	for name, tc := range map[string]struct {
		reason string
		status authv1.TokenReviewStatus
		err    error
		want   error
	}{
		"Good":        {reason: "The API server knows it, for us.", status: authv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: []string{"hansa-hub"}}},
		"Unknown":     {reason: "It is nobody's.", status: authv1.TokenReviewStatus{Error: "expired"}, want: enrolment.ErrNotAuthenticated},
		"Audience":    {reason: "It is for the API server: any pod's token would do.", status: authv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: []string{"https://kubernetes.default.svc"}}, want: enrolment.ErrNotAuthenticated},
		"NoAudiences": {reason: "An API server that checks none.", status: authv1.TokenReviewStatus{Authenticated: true, User: user}, want: enrolment.ErrNotAuthenticated},
		"Away":        {reason: "It could not be asked.", err: net.ErrClosed, want: net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			if err := authv1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			api := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
				Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
					review := object.(*authv1.TokenReview)
					if review.Spec.Token != "x" || len(review.Spec.Audiences) != 1 || review.Spec.Audiences[0] != enrolment.Audience {
						t.Errorf("asked: %+v", review.Spec)
					}
					review.Status = tc.status
					return tc.err
				},
			})
			username, uid, err := enrolment.Review(t.Context(), api, "x", []string{enrolment.Audience})
			if !errors.Is(err, tc.want) || err == nil && (username != account || uid != "u1") {
				t.Errorf("%s\ngot %q, %q, %v, want %v", tc.reason, username, uid, err, tc.want)
			}
		})
	}
	if got := enrolment.AccountName(namespace); got != account {
		t.Errorf("the account is called %s", got)
	}
}
