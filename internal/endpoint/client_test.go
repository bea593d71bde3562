// SPDX-License-Identifier: Apache-2.0

package endpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// TestMain names a proxy before net/http reads the environment, which it does once.
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "by proxy to "+r.URL.String()+" for "+r.Header.Get("X-Scope-OrgID"))
	}))
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		if err := os.Setenv(name, proxy.URL); err != nil {
			panic(err)
		}
	}
	if err := os.Setenv("NO_PROXY", "host"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// get asks and gives the body, or the error.
func get(t *testing.T, c *http.Client, e *endpoint.Endpoint) (string, error) {
	t.Helper()
	resp, err := c.Get(e.URL().JoinPath("x").String())
	if err != nil {
		return "", endpoint.Redacted(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + string(body), nil
}

func parse(t *testing.T, address string) *endpoint.Endpoint {
	t.Helper()
	e, err := endpoint.Parse(address, "store", every()...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// want compares what a server saw with what it should.
func want(t *testing.T, got string, err error, want string) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// echo answers with the headers of interest.
func echo(w http.ResponseWriter, r *http.Request) {
	h := r.Header
	_, _ = io.WriteString(w, strings.Join([]string{h.Get("Authorization"), h.Get("X-Scope-OrgID"), strings.Join(h["X-Key"], ",")}, "|"))
}

func TestCredentials(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	defer s.Close()
	token := secretFile(t, "first\n")
	password := secretFile(t, "pass word\n")
	client := func(settings string) (*http.Client, *endpoint.Endpoint) {
		e := parse(t, s.URL+"?"+settings)
		c, _ := e.Client()
		return c, e
	}

	c, e := client("bearer_token_file=" + url.QueryEscape(token))
	got, err := get(t, c, e)
	want(t, got, err, "200 OK Bearer first||")
	write(t, token, "second")
	got, err = get(t, c, e)
	want(t, got, err, "200 OK Bearer second||")
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if got, err = get(t, c, e); err == nil || !strings.Contains(err.Error(), "read bearer_token_file") {
		t.Errorf("without its token file a request gives %q, %v", got, err)
	}

	c, e = client("username=user&tenant=shop&header.X-Key=a&header.X-Key=b&password_file=" + url.QueryEscape(password))
	got, err = get(t, c, e)
	want(t, got, err, "200 OK Basic dXNlcjpwYXNzIHdvcmQ=|shop|a,b")

	e = parse(t, strings.Replace(s.URL, "http://", "pyroscope+http://user:pass%20word@", 1))
	c, _ = e.Client()
	got, err = get(t, c, e)
	want(t, got, err, "200 OK Basic dXNlcjpwYXNzIHdvcmQ=||")
}

// Neither the request nor its credentials go elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("redirected with %q", r.Header)
	}))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	e := parse(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1))
	c, _ := e.Client()
	if got, err := get(t, c, e); err != nil || !strings.HasPrefix(got, "307 ") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProxy(t *testing.T) {
	e := parse(t, "pyroscope+http://profiles.invalid:4040?tenant=shop")
	c, _ := e.Client()
	got, err := get(t, c, e)
	want(t, got, err, "200 OK by proxy to http://profiles.invalid:4040/x for shop")
	if _, err := endpoint.Parse("parca://profiles.invalid:7070", "store", endpoint.Parca); err == nil || !strings.Contains(err.Error(), "use parcas://, or name the host in NO_PROXY") {
		t.Errorf("plaintext gRPC through a proxy: error is %v", err)
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.pem and name.key; without an authority it signs itself.
func (a *authority) issue(name string, names []string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: a.key == nil,
	}
	parent, signer := a.cert, a.key
	if signer == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	write(a.t, a.path(name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, a.path(name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	cert, err := x509.ParseCertificate(der)
	a.check(err)
	return cert, key
}

func (a *authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// serve answers over TLS with who the client says it is.
func (a *authority) serve(protocols string) *httptest.Server {
	a.t.Helper()
	a.issue("server", []string{"profiles.test"})
	pair, err := tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.key"))
	a.check(err)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.TLS.ServerName)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that are refused are part of the test
	s.EnableHTTP2 = strings.Contains(protocols, "h2")
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

// Both ends show certificates, and a replaced one is shown from the next request on.
func TestMutualTLS(t *testing.T) {
	for _, c := range []struct{ scheme, protocols, proto string }{
		{"https", "http/1.1", "HTTP/1.1"}, {"https", "h2", "HTTP/2.0"}, {"parcas", "h2", "HTTP/2.0"},
	} {
		a := newAuthority(t)
		s := a.serve(c.protocols)
		a.issue("one", nil)
		address := strings.Replace(s.URL, "https", c.scheme, 1) + "?server_name=profiles.test"
		files := "&cert_file=" + a.path("one.pem") + "&key_file=" + a.path("one.key")
		e := parse(t, address+files+"&ca_file="+a.path("ca.pem"))
		client, _ := e.Client()
		for range 2 {
			got, err := get(t, client, e)
			want(t, got, err, "200 OK "+c.proto+" one profiles.test")
		}
		a.issue("two", nil)
		a.check(os.Rename(a.path("two.pem"), a.path("one.pem")))
		a.check(os.Rename(a.path("two.key"), a.path("one.key")))
		got, err := get(t, client, e)
		want(t, got, err, "200 OK "+c.proto+" two profiles.test")

		for _, bad := range []string{address + files, address + "&ca_file=" + a.path("ca.pem")} {
			e := parse(t, bad)
			client, _ := e.Client()
			if got, err := get(t, client, e); err == nil {
				t.Errorf("%s: got %q without the CA or a certificate", bad, got)
			}
		}
	}
}
