package enrolment

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

const (
	// stateFile is what an Agent keeps in its directory: key, certificate and roots, so that they are replaced at once.
	stateFile = "identity.json"
	// stateMode and dirMode are theirs: a key is in it.
	stateMode = 0o600
	dirMode   = 0o700
	// maxState is the most that is read of it, in bytes.
	maxState = 1 << 20
)

// kept is the content of stateFile. All but UsedToken are PEM.
type kept struct {
	Key   string `json:"key"`
	Chain string `json:"chain"`
	Roots string `json:"roots"`
	// UsedToken is the ID of the join token that was used last: it is good once.
	UsedToken string `json:"usedToken,omitempty"`
}

// holding is a certificate with its key, and whom to trust. It is immutable.
type holding struct {
	kept   kept
	id     identity.ID
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

// hold reads what is kept. It checks that the key is that of the certificate, that the certificate leads to one of the
// roots, and that it is for somebody of the trust domain; whether it has ended is another question.
func hold(td spiffeid.TrustDomain, k kept) (*holding, error) {
	svid, err := x509svid.Parse([]byte(k.Chain), []byte(k.Key))
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	id, err := identity.Parse(svid.ID)
	if err != nil {
		return nil, err
	}
	if id.TrustDomain != td {
		return nil, fmt.Errorf("the certificate is for %s, wanted is the trust domain %s", id, td)
	}
	bundle, err := x509bundle.Parse(td, []byte(k.Roots))
	if err != nil {
		return nil, fmt.Errorf("the roots: %w", err)
	}
	leaf := svid.Certificates[0]
	if _, _, err := x509svid.Verify(svid.Certificates, bundle, x509svid.WithTime(identity.Signed(leaf))); err != nil {
		return nil, fmt.Errorf("the certificate does not lead to one of the roots that came with it: %w", err)
	}
	return &holding{kept: k, id: id, svid: svid, bundle: bundle}, nil
}

func (h *holding) leaf() *x509.Certificate { return h.svid.Certificates[0] }

// good tells whether the certificate has not ended.
func (h *holding) good(now time.Time) bool { return h != nil && now.Before(h.leaf().NotAfter) }

// load reads what is kept in a directory; nil when there is nothing.
func load(dir string, td spiffeid.TrustDomain) (*holding, error) {
	path := filepath.Join(dir, stateFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil //nolint:nilnil // nothing kept yet is an ordinary answer
	case err != nil:
		return nil, fmt.Errorf("reading the identity of the agent: %w", err)
	case info.Size() > maxState:
		return nil, fmt.Errorf("%s has %d bytes, more than an identity can have", path, info.Size())
	}
	text, err := os.ReadFile(path) //nolint:gosec // the options name it
	if err != nil {
		return nil, fmt.Errorf("reading the identity of the agent: %w", err)
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%s is not what an agent writes", path) // the error might show some of it
	}
	held, err := hold(td, k)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return held, nil
}

// save replaces what is kept in a directory: there is either all of it afterwards, or all of what there was.
func save(dir string, k kept) error {
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the identity of the agent: %w", err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("making the directory for the identity of the agent: %w", err)
	}
	file, err := os.CreateTemp(dir, stateFile+".*") // with mode 0600
	if err != nil {
		return fmt.Errorf("keeping the identity of the agent: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Chmod(stateMode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, stateFile))
	}
	if err != nil {
		return fmt.Errorf("keeping the identity of the agent: %w", errors.Join(err, ignoreMissing(os.Remove(file.Name()))))
	}
	return syncDir(dir)
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	open, err := os.Open(dir) //nolint:gosec // the options name it
	if err != nil {
		return fmt.Errorf("keeping the identity of the agent: %w", err)
	}
	if err := errors.Join(open.Sync(), open.Close()); err != nil {
		return fmt.Errorf("keeping the identity of the agent: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// encodeKey returns a key in PEM (PKCS #8).
func encodeKey(key crypto.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding a key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// unite returns the roots of several texts in PEM together, of which some may be empty.
func unite(td spiffeid.TrustDomain, texts ...[]byte) (*x509bundle.Bundle, error) {
	all := x509bundle.New(td)
	for _, text := range texts {
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		bundle, err := x509bundle.Parse(td, text)
		if err != nil {
			return nil, err
		}
		for _, root := range bundle.X509Authorities() {
			all.AddX509Authority(root)
		}
	}
	if len(all.X509Authorities()) == 0 {
		return nil, errors.New("there are no roots by which to know the hub")
	}
	return all, nil
}
