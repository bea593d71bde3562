// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// security is how TLS is spoken.
type security struct {
	roots      *x509.CertPool // nil is those of the system
	serverName string
	cert, key  string // files; empty for no certificate of our own
}

// setSecurity takes the settings of TLS. The CA is read once; a certificate of our own at each
// handshake.
func (e *Endpoint) setSecurity(values map[string]string) error {
	s := &security{serverName: values[serverName], cert: values[certFile], key: values[keyFile]}
	if !e.tls {
		for _, name := range []string{caFile, certFile, keyFile, serverName} {
			if values[name] != "" {
				return fmt.Errorf("%s needs TLS: use %s", name, e.secureScheme())
			}
		}
		return nil
	}
	if (s.cert == "") != (s.key == "") {
		return fmt.Errorf("%s and %s go together", certFile, keyFile)
	}
	if path := values[caFile]; path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read %s: %w; it must be there and readable for fleetprof", caFile, err)
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("read %s %s: there is no certificate in PEM form in it", caFile, path)
		}
	}
	if s.cert != "" {
		if _, err := s.certificate(); err != nil {
			return err
		}
	}
	e.security = s
	return nil
}

// certificate reads our own.
func (s *security) certificate() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return nil, fmt.Errorf("read %s and %s: %w; both must be PEM, readable for fleetprof, and belong together", certFile, keyFile, err)
	}
	return &c, nil
}

func (s *security) config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots, ServerName: s.serverName}
	if s.cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate() }
	}
	return c
}

// pair tells when the files of our own certificate are replaced.
type pair struct {
	files [2]string
	known [2]os.FileInfo
}

// newPair gives nil if there is no certificate.
func (s *security) newPair() *pair {
	if s == nil || s.cert == "" {
		return nil
	}
	p := &pair{files: [2]string{s.cert, s.key}}
	p.changed()
	return p
}

// changed reports whether a file is another than at the last call.
func (p *pair) changed() bool {
	changed := false
	for i, path := range p.files {
		info, err := os.Stat(path)
		if err != nil {
			continue // in the middle of being replaced; the next handshake tells if it stays so
		}
		// Times alone do not tell: the clock of file systems ticks every few milliseconds.
		was := p.known[i]
		changed = changed || was == nil || !os.SameFile(was, info) || !was.ModTime().Equal(info.ModTime()) || was.Size() != info.Size()
		p.known[i] = info
	}
	return changed
}
