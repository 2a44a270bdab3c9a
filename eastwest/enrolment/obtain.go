package enrolment

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hansa-dev/hansa/eastwest/enrolment/enrolmentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
)

// The values of the label outcome of an Agent's metric.
const (
	outcomeRenewed  = "renewed"
	outcomeEnrolled = "enrolled"
	outcomeFailed   = "failed"
)

// obtain gets a certificate: by the one there is, and if that is not good any more, was revoked, or is not there, by a
// proof.
func (a *Agent) obtain(ctx context.Context) error {
	held := a.get()
	var renewing error
	if held.good(a.options.Now()) {
		if renewing = a.renew(ctx, held); renewing == nil {
			return nil
		}
		renewing = fmt.Errorf("renewing the certificate: %w", renewing)
	}
	err := a.enroll(ctx, held)
	if err == nil {
		return nil
	}
	if errors.Is(err, errNoProof) && renewing != nil {
		return renewing // an agent with a certificate needs no proof
	}
	return errors.Join(renewing, fmt.Errorf("enrolling: %w", err))
}

func (a *Agent) renew(ctx context.Context, held *holding) error {
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	config := identity.HubClient{Own: held.svid, Roots: held.bundle, TrustDomain: a.options.TrustDomain, Now: a.options.Now}.Config()
	answer, err := a.ask(ctx, a.options.Renew, config, func(ctx context.Context, conn *grpc.ClientConn) (*enrolmentpb.Certificate, error) {
		return enrolmentpb.Renew(ctx, conn, &enrolmentpb.RenewRequest{Request: request})
	})
	if err != nil {
		return err
	}
	return a.accept(key, answer, outcomeRenewed, &held.id)
}

// errNoProof says that there is nothing to enroll with.
var errNoProof = errors.New("there is neither the token of a ServiceAccount nor a join token that was not used yet")

func (a *Agent) enroll(ctx context.Context, held *holding) error {
	request := &enrolmentpb.EnrollRequest{Role: string(a.options.Role), Cluster: a.options.Cluster}
	token, err := a.prove(request)
	if err != nil {
		return err
	}
	roots, err := a.roots(held)
	if err != nil {
		return err
	}
	key, der, err := newRequest()
	if err != nil {
		return err
	}
	request.Request = der
	config := identity.HubClient{Roots: roots, TrustDomain: a.options.TrustDomain, Now: a.options.Now}.Config()
	answer, err := a.ask(ctx, a.options.Enroll, config, func(ctx context.Context, conn *grpc.ClientConn) (*enrolmentpb.Certificate, error) {
		return enrolmentpb.Enroll(ctx, conn, request)
	})
	if err != nil {
		return err
	}
	if token != "" {
		a.used = token
	}
	return a.accept(key, answer, outcomeEnrolled, nil)
}

// prove puts a proof into a request. It returns the ID of the join token if it is one.
func (a *Agent) prove(request *enrolmentpb.EnrollRequest) (string, error) {
	account, err := readToken(a.options.AccountTokenFile)
	if account != "" {
		request.Proof = &enrolmentpb.EnrollRequest_ServiceAccountToken{ServiceAccountToken: account}
		return "", nil
	}
	text, joinErr := readToken(a.options.JoinTokenFile)
	if err = errors.Join(err, joinErr); err != nil {
		return "", err
	}
	if text == "" {
		return "", errNoProof
	}
	token, err := ParseToken(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", a.options.JoinTokenFile, err)
	case token.ID == a.used:
		return "", errNoProof
	}
	request.Proof = &enrolmentpb.EnrollRequest_JoinToken{JoinToken: token.Text()}
	return token.ID, nil
}

// readToken reads a file with a token; empty when there is none.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the options name it
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading a token: %w", err)
	}
	return string(bytes.TrimSpace(text)), nil
}

// roots returns by what to know a hub when there is no good certificate: what came with the token, and what came with the
// last certificate. Whoever answers without being signed by one of these is no hub.
func (a *Agent) roots(held *holding) (*x509bundle.Bundle, error) {
	var given, last []byte
	if a.options.RootsFile != "" {
		text, err := os.ReadFile(a.options.RootsFile)
		if ignoreMissing(err) != nil {
			return nil, fmt.Errorf("reading the roots by which to know the hub: %w", err)
		}
		given = text
	}
	if held != nil {
		last = []byte(held.kept.Roots)
	}
	roots, err := unite(a.options.TrustDomain, given, last)
	if err != nil {
		return nil, fmt.Errorf("the roots of %q: %w. Put there what came with the token", a.options.RootsFile, err)
	}
	return roots, nil
}

// ask asks one hub after the other, until one answers.
func (a *Agent) ask(ctx context.Context, hubs func() []string, config *tls.Config,
	call func(context.Context, *grpc.ClientConn) (*enrolmentpb.Certificate, error),
) (*enrolmentpb.Certificate, error) {
	var addresses []string
	if hubs != nil {
		addresses = hubs()
	}
	if len(addresses) == 0 {
		return nil, errors.New("there is no address of a hub")
	}
	var problems []error
	for _, address := range addresses {
		answer, err := a.askOne(ctx, address, config, call)
		if err == nil {
			return answer, nil
		}
		problems = append(problems, fmt.Errorf("hub %s: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(problems...)
}

func (a *Agent) askOne(ctx context.Context, address string, config *tls.Config,
	call func(context.Context, *grpc.ClientConn) (*enrolmentpb.Certificate, error),
) (answer *enrolmentpb.Certificate, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return a.options.Dial(ctx, address) }),
	)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return call(ctx, conn)
}

// accept checks what a hub signed, keeps it, and uses it from now on. same is who it has to be for, if that is known.
func (a *Agent) accept(key any, answer *enrolmentpb.Certificate, outcome string, same *identity.ID) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	held, err := hold(a.options.TrustDomain, kept{
		Key: text, Chain: string(answer.GetChain()), Roots: string(answer.GetRoots()), UsedToken: a.used,
	})
	now := a.options.Now()
	switch {
	case err != nil:
		return fmt.Errorf("what the hub signed is of no use: %w", err)
	case held.id.Role != a.options.Role:
		return fmt.Errorf("the hub gave the identity %s, wanted is the role %s", held.id, a.options.Role)
	case same != nil && held.id != *same:
		return fmt.Errorf("the hub gave the identity %s, wanted is %s", held.id, *same)
	case !held.good(now) || now.Before(held.leaf().NotBefore):
		return fmt.Errorf("the hub gave a certificate that is good from %s to %s: the clock here says %s. Set the clocks",
			held.leaf().NotBefore.UTC(), held.leaf().NotAfter.UTC(), now.UTC())
	}
	if err := save(a.options.Dir, held.kept); err != nil { // it is good all the same, until the next start
		a.options.Log.Error(err, "The new certificate is used and not kept")
	}
	a.take(held)
	a.next = later(a.next, now.Add(rest))
	a.renewed.WithLabelValues(outcome).Inc()
	a.options.Log.Info("Got a certificate", "how", outcome, "id", held.id.String(), "until", held.leaf().NotAfter)
	return nil
}
