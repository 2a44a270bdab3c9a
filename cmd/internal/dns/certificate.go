package dns

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// look is how long a certificate is used before its files are looked at again.
const look = time.Second

// certificate is one that two files hold. Handshakes look whether they have changed.
type certificate struct {
	certFile, keyFile string
	log               logr.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
	stamps  [2]stamp // of the files as they were read last, whether that was of use or not
}

// stamp tells files apart, without reading them.
type stamp struct {
	changed time.Time
	size    int64
}

// tlsConfig returns the configuration of TLS and HTTPS; nil when neither is served.
func (f *Flags) tlsConfig(log logr.Logger) (*tls.Config, error) {
	wanted, given := len(f.TLSAddrs)+len(f.HTTPSAddrs) > 0, f.CertFile != "" || f.KeyFile != ""
	switch {
	case !wanted && !given:
		return nil, nil //nolint:nilnil // plain DNS is an ordinary choice
	case !wanted:
		return nil, fmt.Errorf("--%stls-cert-file and --%stls-key-file are for --%stls-addr or --%shttps-addr", f.prefix, f.prefix, f.prefix, f.prefix)
	case f.CertFile == "" || f.KeyFile == "":
		return nil, fmt.Errorf("--%stls-addr and --%shttps-addr need --%stls-cert-file and --%stls-key-file", f.prefix, f.prefix, f.prefix, f.prefix)
	}
	c := &certificate{certFile: f.CertFile, keyFile: f.KeyFile, log: log, now: time.Now}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("--%stls-cert-file, --%stls-key-file: %w", f.prefix, f.prefix, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// get returns the certificate for a handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now().Sub(c.looked) < look {
		return c.current, nil
	}
	stamps, err := c.stat()
	if err == nil && stamps == c.stamps {
		c.looked = c.now()
		return c.current, nil
	}
	if err := errors.Join(err, c.read()); err != nil {
		c.log.Error(err, "The new certificate cannot be used; the one before stays", "certificate", c.certFile)
		return c.current, nil
	}
	c.log.Info("The certificate was read again", "certificate", c.certFile)
	return c.current, nil
}

func (c *certificate) stat() (stamps [2]stamp, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return stamps, err //nolint:wrapcheck // an fs.PathError names the file
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// read reads the files. The stamps are taken before: what changes meanwhile is read again.
func (c *certificate) read() error {
	c.looked = c.now()
	stamps, err := c.stat()
	if err != nil {
		return err
	}
	c.stamps = stamps
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("reading %s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.current = &pair
	return nil
}
