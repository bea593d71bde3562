// SPDX-License-Identifier: Apache-2.0

package access

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// TLSFiles are paths of PEM files; all empty is no TLS.
type TLSFiles struct {
	// Cert is the certificate of this server with those that lead to its
	// authority, Key its key.
	Cert, Key string
	// ClientCA has the authorities whose certificates clients may show; empty is
	// none. A client need not show one: health checks have none.
	ClientCA string
}

// certificates is what was read of the files.
type certificates struct {
	config      *tls.Config
	expiry      time.Time // of our own
	authorities []*x509.Certificate
}

// load reads the files; nil if there are none.
func (f TLSFiles) load() (*certificates, error) {
	if f.Cert == "" && f.Key == "" && f.ClientCA == "" {
		return nil, nil
	}
	own, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %q and key %q: %w", f.Cert, f.Key, err)
	}
	c := &certificates{expiry: own.Leaf.NotAfter, config: &tls.Config{
		Certificates: []tls.Certificate{own},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}}
	if f.ClientCA == "" {
		return c, nil
	}
	if c.authorities, err = readCertificates(f.ClientCA); err != nil {
		return nil, fmt.Errorf("read authorities of clients %s: %w", f.ClientCA, err)
	}
	c.config.ClientAuth, c.config.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	for _, a := range c.authorities {
		c.config.ClientCAs.AddCert(a)
	}
	return c, nil
}

func readCertificates(path string) (all []*x509.Certificate, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if all == nil {
		return nil, errors.New("no certificate in it: want PEM")
	}
	return all, nil
}

// TLSConfig is that of a listener, and follows Reload; nil without TLS.
func (g *Guard) TLSConfig() *tls.Config {
	if g.certs.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.certs.Load().config, nil },
	}
}

// verified is the client's certificate if it is still good: a connection may be older
// than the authorities in force, and outlive the certificate that it was made with.
func (c *certificates) verified(state *tls.ConnectionState, now time.Time) *x509.Certificate {
	if c == nil || state == nil {
		return nil
	}
	for _, chain := range state.VerifiedChains {
		leaf, root := chain[0], chain[len(chain)-1]
		if now.Before(leaf.NotAfter) && slices.ContainsFunc(c.authorities, root.Equal) {
			return leaf
		}
	}
	return nil
}

// namesOf are the names that an entry of the file may give a certificate by.
func namesOf(leaf *x509.Certificate) []string {
	var names []string
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	names = append(names, leaf.DNSNames...)
	if leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	return names
}

// nameOf is what a certificate's client is called.
func nameOf(leaf *x509.Certificate) string {
	if names := namesOf(leaf); len(names) > 0 {
		return names[0]
	}
	return "certificate " + leaf.SerialNumber.String()
}
