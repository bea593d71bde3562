// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
)

// tenantHeader names the tenant in Pyroscope, Mimir, Loki and Tempo.
const tenantHeader = "X-Scope-OrgID"

// maxSecret bounds a file with a token or password, in bytes.
const maxSecret = 64 << 10

// credentials are what each request carries.
type credentials struct {
	header         http.Header
	user, password string // basic authentication, if there is a user
	passwordFile   string // instead of the password
	tokenFile      string // bearer authentication
}

// authorization makes the header of that name, "" for none. It reads the files anew: what a
// secret manager has replaced is used by the next request.
func (c *credentials) authorization() (string, error) {
	if c.tokenFile != "" {
		secret, err := readSecret(bearerTokenFile, c.tokenFile)
		return "Bearer " + secret, err
	}
	if c.user == "" {
		return "", nil
	}
	password := c.password
	if c.passwordFile != "" {
		var err error
		if password, err = readSecret(passwordFile, c.passwordFile); err != nil {
			return "", err
		}
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+password)), nil
}

// readSecret reads the file of a setting. White space around a secret is not part of it.
func readSecret(setting, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w; it must be there and readable for fleetprof", setting, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", setting, err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" || len(text) > maxSecret || setting == bearerTokenFile && !printable(secret) {
		return "", fmt.Errorf("read %s %s: want one line with the secret and nothing else", setting, path)
	}
	return secret, nil
}

// carrier puts credentials on requests. It is safe for concurrent use.
type carrier struct {
	credentials *credentials
	pair        *pair // nil without a certificate of our own

	mu        sync.Mutex
	transport *http.Transport
}

// RoundTrip sends a request with the credentials.
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	authorization, err := c.credentials.authorization()
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close()) // as RoundTrippers must
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	maps.Copy(req.Header, c.credentials.header)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return c.current().RoundTrip(req)
}

// current is the transport to use. A connection goes on with the certificate that it began
// with, and one of HTTP/2 does not end while it is used: so a new certificate means new connections.
func (c *carrier) current() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair != nil && c.pair.changed() {
		old := c.transport
		c.transport = old.Clone()
		old.CloseIdleConnections() // and those in use once they have been idle for a while
	}
	return c.transport
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (c *carrier) CloseIdleConnections() { c.current().CloseIdleConnections() }
