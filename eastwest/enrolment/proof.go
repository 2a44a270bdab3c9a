package enrolment

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/status"
	authv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
)

const (
	// Audience is what a ServiceAccount token has to be for.
	Audience = "hansa-hub"
	// AgentAccount is the name of the ServiceAccount of agents.
	AgentAccount = "hansa-agent"
)

// ErrNotAuthenticated says that an API server does not know a token, or that it is for somebody else.
var ErrNotAuthenticated = errors.New("the token of the ServiceAccount is not good")

// TokenReviewer asks the API server of a cluster, by its KubeFedCluster's name, whose a token is. It returns
// ErrNotAuthenticated when it is nobody's or not for one of the audiences, and other errors when the API server could not
// be asked.
type TokenReviewer interface {
	Review(ctx context.Context, cluster, token string, audiences []string) (username, uid string, err error)
}

// TokenReviewerFunc is a TokenReviewer.
type TokenReviewerFunc func(ctx context.Context, cluster, token string, audiences []string) (username, uid string, err error)

// Review implements TokenReviewer.
func (f TokenReviewerFunc) Review(ctx context.Context, cluster, token string, audiences []string) (username, uid string, err error) {
	return f(ctx, cluster, token, audiences)
}

// Review asks the API server behind a client whose a token is, as a TokenReviewer does.
func Review(ctx context.Context, api client.Writer, token string, audiences []string) (username, uid string, err error) {
	review := &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: audiences}}
	if err := api.Create(ctx, review); err != nil {
		return "", "", fmt.Errorf("asking the API server whose a token is (TokenReview): %w", err)
	}
	status := review.Status
	// An API server that does not know of audiences returns none, and has checked none.
	if !status.Authenticated || !slices.ContainsFunc(status.Audiences, func(a string) bool { return slices.Contains(audiences, a) }) {
		return "", "", ErrNotAuthenticated
	}
	return status.User.Username, status.User.UID, nil
}

// The values of the label proof of the metric.
const (
	byToken       = "join_token"
	byAccount     = "service_account"
	byCertificate = "certificate"
	byNothing     = "none"
)

// proof is what somebody has proved.
type proof struct {
	cluster string // the name of the KubeFedCluster
	what    string // for the log
	// use makes the proof worthless, if it is good once only.
	use func(context.Context) error
}

// prove finds out in which cluster somebody is who asks for a certificate.
func (s *Server) prove(ctx context.Context, request *enrolmentpb.EnrollRequest) (proof, error) {
	switch given := request.GetProof().(type) {
	case *enrolmentpb.EnrollRequest_JoinToken:
		return s.proveByToken(ctx, given.JoinToken, request.GetCluster())
	case *enrolmentpb.EnrollRequest_ServiceAccountToken:
		return s.proveByAccount(ctx, given.ServiceAccountToken, request.GetCluster())
	}
	return proof{}, deny(outcomeDenied, "there is no proof: give a join token, or the token of the agent's ServiceAccount")
}

func (s *Server) proveByToken(ctx context.Context, token, cluster string) (proof, error) {
	if s.options.Tokens == nil {
		return proof{}, deny(outcomeDenied, "this hub takes no join tokens")
	}
	found, err := s.options.Tokens.find(ctx, token)
	switch {
	case errors.Is(err, ErrToken):
		return proof{}, deny(outcomeToken, "%s", ErrToken)
	case err != nil:
		return proof{}, s.unavailable(err, "the hub could not look up the join token")
	case cluster != "" && cluster != found.cluster:
		return proof{}, deny(outcomeDenied, "the join token is for another cluster than %q", cluster)
	}
	return proof{
		cluster: found.cluster, what: "join token " + found.name[len(TokenPrefix):],
		use: func(ctx context.Context) error { return s.options.Tokens.use(ctx, found) },
	}, nil
}

func (s *Server) proveByAccount(ctx context.Context, token, cluster string) (proof, error) {
	switch {
	case s.options.Reviewer == nil:
		return proof{}, deny(outcomeDenied, "this hub takes no tokens of ServiceAccounts")
	case cluster == "":
		return proof{}, deny(outcomeDenied, "with the token of a ServiceAccount, the cluster has to be named: its API server is asked")
	}
	if _, known := s.options.ClusterID(cluster); !known { // nobody is asked for whom a stranger names
		return proof{}, badAccount(cluster, fmt.Sprintf("cluster %q is not joined, or its id is not known yet", cluster))
	}
	leave, ok := s.asked.enter(cluster)
	if !ok {
		return proof{}, deny(outcomeLimited, "the hub asks a cluster about as many tokens at a time as it may: try again")
	}
	defer leave()
	username, uid, err := s.options.Reviewer.Review(ctx, cluster, token, []string{Audience})
	switch {
	case errors.Is(err, ErrNotAuthenticated):
		return proof{}, badAccount(cluster, fmt.Sprintf("cluster %q: %s", cluster, ErrNotAuthenticated))
	case err != nil:
		return proof{}, s.unavailable(fmt.Errorf("cluster %q: %w", cluster, err), "the hub could not ask the API server of the cluster")
	case username != s.options.Account:
		return proof{}, deny(outcomeDenied, "the token is that of another account than %s", s.options.Account)
	}
	return proof{cluster: cluster, what: "ServiceAccount token, account UID " + uid}, nil
}

// badAccount refuses the token of a ServiceAccount, for a reason that only the log has: strangers are not told which clusters
// there are.
func badAccount(cluster, why string) error {
	return &denial{outcome: outcomeToken, why: why, status: status.Newf(codeOf[outcomeToken],
		"%s, or there is no cluster %q whose id is known yet; the token has to be of that cluster and for the audience %q", ErrNotAuthenticated, cluster, Audience)}
}

// AccountName returns how API servers call the ServiceAccount of agents in a namespace.
func AccountName(namespace string) string {
	return "system:serviceaccount:" + namespace + ":" + AgentAccount
}
