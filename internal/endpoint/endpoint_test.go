// SPDX-License-Identifier: Apache-2.0

package endpoint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// every is all kinds of server.
func every() []endpoint.Kind {
	return []endpoint.Kind{endpoint.Fleetprof, endpoint.Parca, endpoint.Pyroscope, endpoint.OTLP}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		address, name, url string
		kind               endpoint.Kind
	}{
		{"http://host:7171", "http://host:7171", "http://host:7171", endpoint.Fleetprof},
		{"https://user:secret@host/path/", "https://host/path/", "https://host/path/", endpoint.Fleetprof},
		{"http://user:secret@127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1", endpoint.Fleetprof},
		{"http://user:secret@host:1?insecure=true", "http://host:1", "http://host:1", endpoint.Fleetprof},
		{"parca://[::1]:7070", "parca://[::1]:7070", "http://[::1]:7070", endpoint.Parca},
		{"parcas://host:7070/?header.X-Key=secret", "parcas://host:7070/", "https://host:7070/", endpoint.Parca},
		{"pyroscope+http://user:secret@127.0.0.1:4040?tenant=a b", "pyroscope+http://127.0.0.1:4040?tenant=a+b", "http://127.0.0.1:4040", endpoint.Pyroscope},
		{"pyroscope+http://host:4040?tenant=shop&header.x=y&insecure=true", "pyroscope+http://host:4040?tenant=shop", "http://host:4040", endpoint.Pyroscope},
		{"pyroscope+https://host/p?server_name=other", "pyroscope+https://host/p", "https://host/p", endpoint.Pyroscope},
		{"otlp://host:4317", "otlp://host:4317", "http://host:4317", endpoint.OTLP},
		{"otlps://host:4317", "otlps://host:4317", "https://host:4317", endpoint.OTLP},
	} {
		e, err := endpoint.Parse(c.address, "store", every()...)
		if err != nil {
			t.Error(err)
			continue
		}
		if e.String() != c.name || e.URL().String() != c.url || e.Kind() != c.kind {
			t.Errorf("%s is %v, %v at %v", c.address, e, e.Kind(), e.URL())
		}
	}
}

// secretFile makes a file with a secret in it.
func secretFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	write(t, path, text)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is wrong is said with the way out, and without any secret.
func TestParseRefuses(t *testing.T) {
	file := secretFile(t, "hush\n")
	broken, empty := secretFile(t, "hush\nhush\n"), secretFile(t, " \n")
	for _, c := range []struct{ address, want string }{
		{"", "want a URL such as http://127.0.0.1:7171, or parca"},
		{"localhost:7171", "want a URL"},
		{"ftp://host", "want a URL"},
		{"http://", "want a URL"},
		{"//host", "want a URL"},
		{"http://host#part", "want a URL"},
		{"http://user:hush@host:port", "%40 for @"},
		{"https://user:hu/sh@host", "%40 for @"},
		{"http://host:port", "invalid port"},
		{"parca://host", "with a port"},
		{"otlp://host:4317/v1", "without a path"},
		{"http://host?x=hush", `unknown setting "x": there are bearer_token_file, username, password_file`},
		{"http://host?a;b=hush", "%26 for &"},
		{"https://host?password=hush", "use bearer_token_file, or username and password_file"},
		{"https://host?bearer_token=hush", "secrets stand in files"},
		{"https://host?tenant=a&tenant=b", "needs one value"},
		{"https://host?tenant=", "needs one value"},
		{"https://host?tenant=a%0ab", "character that headers cannot have"},
		{"https://host?header.Authorization=hush", "use bearer_token_file"},
		{"https://host?header.x-scope-orgid=hush", "tenant"},
		{"https://host?header.=hush", "no name of a header"},
		{"https://host?header.a%20b=hush", "no name of a header"},
		{"https://host?header.A=hush%0d%0aB:%20c", "character that headers cannot have"},
		{"https://user:hush@host?bearer_token_file=" + file, "drop one of them"},
		{"https://user:hush@host?username=a&password_file=" + file, "drop one of them"},
		{"https://host?username=a&password_file=" + file + "&bearer_token_file=" + file, "drop one of them"},
		{"https://host?username=a", "go together"},
		{"https://host?password_file=" + file, "go together"},
		{"https://:hush@host", "no user before the password"},
		{"https://a%3ab:hush@host", "colon"},
		{"https://host?bearer_token_file=/nowhere", "read bearer_token_file: open /nowhere: no such file or directory; it must be there"},
		{"https://host?bearer_token_file=" + broken, "want one line"},
		{"https://host?bearer_token_file=" + empty, "want one line"},
		{"https://host?username=a&password_file=/nowhere", "read password_file: open /nowhere"},
		{"http://host?bearer_token_file=" + file, "plaintext: use TLS, https://, or say insecure=true"},
		{"parca://host:7070?bearer_token_file=" + file, "use TLS, parcas://"},
		{"pyroscope+http://user:hush@10.0.0.1:4040", "use TLS, pyroscope+https://"},
		{"otlp://host:4317?header.X-Key=hush", "use TLS, otlps://"},
		{"http://host?insecure=true", "which they do not here"},
		{"https://user:hush@host?insecure=true", "certificates are checked in any case"},
		{"http://user:hush@host?insecure=false", "can only be true"},
		{"http://host?ca_file=" + file, "needs TLS: use https://"},
		{"otlp://host:4317?server_name=a", "needs TLS: use otlps://"},
		{"https://host?ca_file=/nowhere", "read ca_file: open /nowhere"},
		{"https://host?ca_file=" + file, "no certificate in PEM form"},
		{"https://host?cert_file=" + file, "go together"},
		{"https://host?cert_file=" + file + "&key_file=" + file, "belong together"},
	} {
		e, err := endpoint.Parse(c.address, "store", every()...)
		if err == nil {
			t.Errorf("%q is accepted as %v", c.address, e)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "hu") || !strings.HasPrefix(text, "parse store address ") {
			t.Errorf("%q: error is %q, want %q", c.address, text, c.want)
		}
	}
}

// A server of another kind is none.
func TestParseRefusesOtherKinds(t *testing.T) {
	_, err := endpoint.Parse("parca://host:7070", "server", endpoint.Fleetprof)
	if err == nil || err.Error() != `parse server address "parca://host:7070": want a URL such as http://127.0.0.1:7171` {
		t.Errorf("error is %v", err)
	}
}

// FuzzParse looks for addresses that give away their secrets.
func FuzzParse(f *testing.F) {
	f.Add("https", "user", "password%41", "host:1", "/path", "tenant=a&header.b=c")
	f.Add("A", "/", "", "1", "1", "1")
	f.Add("https", "a?", "", "host", "", "")
	f.Add("parca", "", "", "[::1]:7070", "", "")
	f.Add("pyroscope+http", "a", "/b", "localhost", "", "insecure=true")
	f.Fuzz(func(t *testing.T, scheme, user, password, host, path, query string) {
		const secret = "0hush0"
		address := scheme + "://" + user + ":" + secret + password + "@" + host + path + "?" + query
		e, err := endpoint.Parse(address, "store", every()...)
		switch {
		case strings.Contains(scheme+user+path+host+query, "0"): // parts of the secret may be in what is shown
		case err != nil && strings.Contains(err.Error(), "hush"):
			t.Errorf("error is %v", err)
		case err == nil && (strings.Contains(e.String(), "hush") || strings.Contains(e.URL().String(), "hush")):
			t.Errorf("called %v at %v", e, e.URL())
		}
	})
}
