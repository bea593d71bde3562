// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// settings are what stands behind the question mark, and user and password.
type settings struct {
	values         map[string]string
	header         http.Header
	user, password string
	userinfo       bool
}

// The parameters, but for header.NAME.
const (
	bearerTokenFile = "bearer_token_file"
	username        = "username"
	passwordFile    = "password_file"
	caFile          = "ca_file"
	certFile        = "cert_file"
	keyFile         = "key_file"
	serverName      = "server_name"
	tenant          = "tenant"
	insecure        = "insecure"

	headerPrefix = "header."
)

func parameters() []string {
	return []string{bearerTokenFile, username, passwordFile, caFile, certFile, keyFile, serverName, tenant, insecure}
}

func parseSettings(u *url.URL) (s settings, err error) {
	s.values, s.header = map[string]string{}, http.Header{}
	if u.User != nil {
		s.userinfo, s.user = true, u.User.Username()
		s.password, _ = u.User.Password()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s, errors.New("read settings: what is behind ? is not NAME=VALUE&…; write special characters as %XX, such as %26 for &")
	}
	for name, values := range query {
		if header, ok := strings.CutPrefix(name, headerPrefix); ok {
			err = s.addHeader(header, values)
		} else {
			err = s.add(name, values)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// add takes one setting. A value is repeated in no error: it may be a secret in a wrong place.
func (s *settings) add(name string, values []string) error {
	switch name {
	case "password", "token", "bearer_token", "key":
		return fmt.Errorf("%s is no setting, secrets stand in files: use %s, or %s and %s", name, bearerTokenFile, username, passwordFile)
	}
	if !slices.Contains(parameters(), name) {
		return fmt.Errorf("unknown setting %q: there are %s and %sNAME", name, strings.Join(parameters(), ", "), headerPrefix)
	}
	if len(values) != 1 || values[0] == "" {
		return fmt.Errorf("%s needs one value, and has %d or an empty one", name, len(values))
	}
	s.values[name] = values[0]
	return nil
}

// reserved are the headers that a request has anyway or that other settings make.
func reserved() []string {
	return []string{
		"Authorization", "Proxy-Authorization", textproto.CanonicalMIMEHeaderKey(tenantHeader), "Host", "Connection", "Upgrade", "Te", "Trailer", "Transfer-Encoding",
		"Content-Type", "Content-Length", "Content-Encoding", "Accept-Encoding",
	}
}

// addHeader takes a header, which may come several times.
func (s *settings) addHeader(name string, values []string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !token(name):
		return fmt.Errorf("%s%s: that is no name of a header", headerPrefix, name)
	case slices.Contains(reserved(), canonical):
		return fmt.Errorf("%s%s cannot be set: use %s, %s with %s, or %s", headerPrefix, name, bearerTokenFile, username, passwordFile, tenant)
	}
	for _, v := range values {
		if !printable(v) {
			return fmt.Errorf("%s%s: its value has a character that headers cannot have", headerPrefix, name)
		}
	}
	s.header[canonical] = append(s.header[canonical], values...)
	return nil
}

// token reports whether s is one in the terms of RFC 9110, section 5.6.2, as names of headers are.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// printable reports whether s can be the value of a header.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// set checks the settings against each other and puts them in force.
func (e *Endpoint) set(s settings) error {
	if err := s.consistent(); err != nil {
		return err
	}
	if err := e.setSecurity(s.values); err != nil {
		return err
	}
	c := credentials{
		header: s.header, user: s.user, password: s.password,
		tokenFile: s.values[bearerTokenFile], passwordFile: s.values[passwordFile],
	}
	if s.values[username] != "" {
		c.user = s.values[username]
	}
	// Headers of the user's own are keys as often as not.
	if err := e.exposed(s.values[insecure], c.tokenFile != "" || c.user != "" || len(c.header) > 0); err != nil {
		return err
	}
	if t := s.values[tenant]; t != "" {
		if !printable(t) {
			return fmt.Errorf("%s has a character that headers cannot have", tenant)
		}
		c.header.Set(tenantHeader, t)
		e.name += "?" + url.Values{tenant: {t}}.Encode() // another tenant is another store
	}
	e.credentials = c
	_, err := c.authorization() // reads the files
	return err
}

// consistent refuses settings that contradict each other.
func (s settings) consistent() error {
	basic := s.userinfo || s.values[username] != "" || s.values[passwordFile] != ""
	switch {
	case basic && s.values[bearerTokenFile] != "":
		return fmt.Errorf("both %s and a user name: a request has one Authorization; drop one of them", bearerTokenFile)
	case s.userinfo && (s.values[username] != "" || s.values[passwordFile] != ""):
		return fmt.Errorf("user and password before the @ as well as %s or %s: drop one of them", username, passwordFile)
	case s.userinfo && s.user == "":
		return errors.New("there is no user before the password: write user:password@, the password may be empty")
	case (s.values[username] == "") != (s.values[passwordFile] == ""):
		return fmt.Errorf("%s and %s go together", username, passwordFile)
	case strings.Contains(s.user+s.values[username], ":"):
		return errors.New("a user name cannot have a colon: RFC 7617, section 2")
	}
	return nil
}

// exposed refuses to send secrets where others can read them, unless told to.
func (e *Endpoint) exposed(told string, secrets bool) error {
	needed := secrets && !e.tls && !e.loopback()
	switch {
	case told != "" && told != "true":
		return fmt.Errorf("%s can only be true", insecure)
	case told != "" && !needed:
		return fmt.Errorf("%s=true lets credentials travel in plaintext, which they do not here; certificates are checked in any case", insecure)
	case told == "" && needed:
		return fmt.Errorf("credentials would travel in plaintext: use TLS, %s, or say %s=true", e.secureScheme(), insecure)
	}
	return nil
}

// secureScheme is how the same kind of server is written with TLS.
func (e *Endpoint) secureScheme() string {
	name, _, _ := strings.Cut(e.name, ":")
	return name + "s://"
}
