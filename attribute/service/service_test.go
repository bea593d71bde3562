// SPDX-License-Identifier: Apache-2.0

package service

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestName(t *testing.T) {
	all := Evidence{Declared: "declared", App: "app", Container: "container", Unit: "web.service", Executable: "exe"}
	weaker := []struct {
		want string
		drop func(*Evidence)
	}{
		{"declared", func(e *Evidence) { e.Declared = "" }},
		{"app", func(e *Evidence) { e.App = "" }},
		{"container", func(e *Evidence) { e.Container = "" }},
		{"web.service", func(e *Evidence) { e.Unit = "user@1000.service" }},
		{"exe", func(e *Evidence) { e.Unit = "session-3.scope" }},
		{"exe", func(e *Evidence) { e.Executable = "" }},
		{"", func(*Evidence) {}},
	}
	for _, step := range weaker {
		if got := all.Name(); got != step.want {
			t.Errorf("%+v: %q, want %q", all, got, step.want)
		}
		step.drop(&all)
	}
}

func TestDeclared(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    string
	}{
		{"nothing", nil, ""},
		{"others", []string{"PATH=/bin", "HOME=/", "SERVICE_NAME=no"}, ""},
		{"name", []string{"PATH=/bin", "OTEL_SERVICE_NAME=shop"}, "shop"},
		{"attributes", []string{"OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=shop,c=d"}, "shop"},
		{"name before attributes", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=other", "OTEL_SERVICE_NAME=shop"}, "shop"},
		{"empty name", []string{"OTEL_SERVICE_NAME=", "OTEL_RESOURCE_ATTRIBUTES=service.name=shop"}, "shop"},
		{"first of two", []string{"OTEL_SERVICE_NAME=first", "OTEL_SERVICE_NAME=second"}, "first"},
		{"name is no list", []string{"OTEL_SERVICE_NAME=a%20b,c=d"}, "a%20b,c=d"},
		{"percent", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=caf%C3%A9%2C%20one"}, "café, one"},
		{"plus stays", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=a+b"}, "a+b"},
		{"spaces", []string{"OTEL_RESOURCE_ATTRIBUTES= service.name = shop , a = b "}, "shop"},
		{"equals sign in the value", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=a=b"}, "a=b"},
		{"an error makes all void", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=shop,broken"}, ""},
		{"bad percent elsewhere", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=shop,a=%zz"}, ""},
		{"no key", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=shop,=x"}, ""},
		{"longest", []string{"OTEL_SERVICE_NAME=" + strings.Repeat("a", 255)}, strings.Repeat("a", 255)},
		{"too long", []string{"OTEL_SERVICE_NAME=" + strings.Repeat("a", 256)}, ""},
		{"no text", []string{"OTEL_SERVICE_NAME=\xff"}, ""},
		{"control characters", []string{"OTEL_SERVICE_NAME=a\x1b[31m"}, ""},
		{"encoded newline", []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=a%0Ab"}, ""},
		{"title over the environment", []string{"nginx: master process", "", ""}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Declared([]byte(strings.Join(tt.environ, "\x00") + "\x00")); got != tt.want {
				t.Errorf("Declared(%q) = %q, want %q", tt.environ, got, tt.want)
			}
		})
	}
}

// Whatever a process makes of its environment, a name is short printable text.
func FuzzDeclared(f *testing.F) {
	f.Add([]byte("OTEL_SERVICE_NAME=a\x00OTEL_RESOURCE_ATTRIBUTES=service.name=%41\x00"))
	f.Fuzz(func(t *testing.T, environ []byte) {
		name := Declared(environ)
		if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n\r\x1b") {
			t.Errorf("Declared(%q) = %q", environ, name)
		}
	})
}
