// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/access"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(time.Hour),
	}
	a.cert, a.key = a.sign(template, "ca")
	return a
}

// sign makes NAME.pem and NAME.key.
func (a *authority) sign(template *x509.Certificate, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, a.path(name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, a.path(name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// server signs a certificate for 127.0.0.1.
func (a *authority) server(name string) {
	a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, name)
}

// client signs a certificate of a client.
func (a *authority) client(name string, life time.Duration, uris ...*url.URL) tls.Certificate {
	a.t.Helper()
	a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, URIs: uris, NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, name)
	pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func (a *authority) files() access.TLSFiles {
	return access.TLSFiles{Cert: a.path("server.pem"), Key: a.path("server.key"), ClientCA: a.path("ca.pem")}
}

// tlsServer serves a guarded handler by TLS.
type tlsServer struct {
	*guarded
	url   string
	roots *x509.CertPool
}

func serveTLS(t *testing.T, g *guarded, a *authority) *tlsServer {
	t.Helper()
	h := httptest.NewUnstartedServer(g.handler)
	h.Config.TLSConfig = g.guard.TLSConfig()
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelWarn)
	ln := h.Listener
	go h.Config.ServeTLS(ln, "", "")
	t.Cleanup(func() { h.Config.Close() })
	s := &tlsServer{guarded: g, url: "https://" + strings.Replace(ln.Addr().String(), "127.0.0.1", "localhost", 1), roots: x509.NewCertPool()}
	s.roots.AddCert(a.cert)
	return s
}

func (s *tlsServer) client(change func(*tls.Config), certs ...tls.Certificate) *http.Client {
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: s.roots, Certificates: certs}}
	if change != nil {
		change(transport.TLSClientConfig)
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get gives the status, the text, and the certificate of the server.
func (s *tlsServer) get(c *http.Client, path string) (int, string, *x509.Certificate) {
	s.t.Helper()
	resp, err := c.Get(s.url + path)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode, string(text), resp.TLS.PeerCertificates[0]
}

func (s *tlsServer) wantTLS(c *http.Client, path string, status int, part string) {
	s.t.Helper()
	if got, text, _ := s.get(c, path); got != status || !strings.Contains(text, part) {
		s.t.Errorf("%s: %d %q, want %d %q", path, got, text, status, part)
	}
}

// Without a file of users a certificate is all it takes; without one there is health
// and nothing else.
func TestClientCertificates(t *testing.T) {
	a := newAuthority(t, "authority")
	a.server("server")
	s := serveTLS(t, guard(t, access.Options{TLS: a.files()}), a)
	s.wantTLS(s.client(nil), "/open", 200, "hello ")
	s.wantTLS(s.client(nil), "/read", 401, "who are you?")
	s.wantTLS(s.client(nil, a.client("node-1", time.Hour)), "/policy", 200, "hello node-1")
	s.wantTLS(s.client(nil, newAuthority(t, "authority").client("node-1", time.Hour)), "/read", 0, "") // another authority of the same name
	s.wantTLS(s.client(nil, a.client("old", -time.Minute)), "/read", 0, "")
	s.wantTLS(s.client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }), "/open", 0, "protocol version")
}

// With a file, it says which roles a certificate has, by one of its names.
func TestCertificatesOfUsers(t *testing.T) {
	a := newAuthority(t, "authority")
	a.server("server")
	id, err := url.Parse("spiffe://example/ns/prod/sa/agent")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(t.TempDir(), "users.yaml"), "users:\n"+
		"  - {name: agents, roles: [push], certificate: 'spiffe://example/ns/prod/sa/agent'}\n"+
		"  - {name: carol, roles: [read], certificate: carol.example}\n"+
		"  - {name: robot, roles: [policy], token_sha256: "+tokenHash(token)+"}\n")
	s := serveTLS(t, guard(t, access.Options{AuthFile: path, TLS: a.files()}), a)
	s.wantTLS(s.client(nil, a.client("x", time.Hour, id)), "/push", 200, "hello agents")
	s.wantTLS(s.client(nil, a.client("carol.example", time.Hour)), "/read", 200, "hello carol")
	s.wantTLS(s.client(nil, a.client("carol.example", time.Hour)), "/push", 403, "carol may not")
	s.wantTLS(s.client(nil, a.client("mallory", time.Hour)), "/read", 401, "this client certificate is nobody's here")
	r, err := http.NewRequest(http.MethodGet, s.url+"/policy", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.client(nil, a.client("mallory", time.Hour)).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Proto != "HTTP/2.0" {
		t.Errorf("a token by HTTP/2 beside a certificate: %s, %s", resp.Status, resp.Proto)
	}
	write(t, path, "users: [{name: nodes, roles: [push], certificate: '*'}]")
	if err := s.guard.Reload(); err != nil {
		t.Fatal(err)
	}
	s.wantTLS(s.client(nil, a.client("mallory", time.Hour)), "/push", 200, "hello mallory")
}

// New certificates are served to new connections, and an authority that is no longer
// trusted counts no more on old ones. What cannot be read changes nothing.
func TestReloadCertificates(t *testing.T) {
	a := newAuthority(t, "authority")
	a.server("server")
	s := serveTLS(t, guard(t, access.Options{TLS: a.files()}), a)
	client := s.client(nil, a.client("node-1", time.Hour))
	_, _, before := s.get(client, "/read")

	write(t, a.path("server.pem"), "half")
	if err := s.guard.Reload(); err == nil || !strings.Contains(err.Error(), "server.pem") {
		t.Errorf("error is %v", err)
	}
	s.wantTLS(s.client(nil), "/open", 200, "")

	a.server("server")
	if err := s.guard.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, _, after := s.get(s.client(nil), "/open"); after == nil || after.Equal(before) {
		t.Error("the old certificate is served")
	}
	s.wantTLS(client, "/read", 200, "node-1")

	text := newAuthority(t, "another")
	write(t, a.path("ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text.cert.Raw})))
	if err := s.guard.Reload(); err != nil {
		t.Fatal(err)
	}
	s.wantTLS(client, "/read", 401, "")
}

func TestBrokenTLSFiles(t *testing.T) {
	a := newAuthority(t, "authority")
	a.server("server")
	good := a.files()
	for _, tt := range []struct {
		files access.TLSFiles
		want  string
	}{
		{access.TLSFiles{Cert: good.Cert, Key: a.path("none")}, "none: no such file"},
		{access.TLSFiles{Cert: good.Cert, Key: a.path("ca.key")}, "private key does not match"},
		{access.TLSFiles{Cert: good.Cert, Key: good.Key, ClientCA: good.Key}, "no certificate in it: want PEM"},
	} {
		if _, err := access.New(access.Options{TLS: tt.files, Registerer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.files, err, tt.want)
		}
	}
}
