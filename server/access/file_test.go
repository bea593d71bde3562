// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

var sixtyFour = strings.Repeat("a1", 32)

func TestFaults(t *testing.T) {
	cheap, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	many := "users:\n" + strings.Repeat("  - {name: a, roles: [read], certificate: b}\n", 3)
	for text, want := range map[string]string{
		"":                                  "0 users: want from 1",
		"users: []":                         "0 users",
		"users: {}":                         "line 1, column 8: want a list",
		"users: [a]":                        "line 1, column 9: want a mapping",
		"users: [{name: &a b}]":             "want a text",
		"users: []\n---\na: b":              "a second document",
		"users: [{name: a, name: b}]":       "line 1, column 19",
		"users: [":                          "line 1, column",
		"user: []":                          `line 1, column 1: unknown field`,
		strings.Repeat(" ", maxFileBytes+1): "more than 262144 bytes",
		many:                                `user 3: the name "a" is there more than 2 times`,
		"users: [{name: a, roles: [read], certificate: b}, {name: '', roles: [read], certificate: b}]":                    "user 2: name: want 1 to 128 bytes",
		"users: [{name: 'a:b', roles: [read], certificate: b}]":                                                           "without a colon",
		"users: [{name: \"a\\nb\", roles: [read], certificate: b}]":                                                       "can be printed",
		"users: [{name: a, certificate: b}]":                                                                              "roles: want some of push, read and policy",
		"users: [{name: a, roles: [admin], certificate: b}]":                                                              `unknown role "admin"`,
		"users: [{name: a, roles: [read]}]":                                                                               "want one of token_sha256",
		"users: [{name: a, roles: [read], certificate: b, token_sha256: " + sixtyFour + "}]":                              "want one of token_sha256",
		"users: [{name: a, roles: [read], token_sha256: hunter2}]":                                                        "want 64 hexadecimal digits",
		"users: [{name: a, roles: [read], password_bcrypt: hunter2}]":                                                     "want a hash of cost 10 to 14",
		"users: [{name: a, roles: [read], password_bcrypt: '" + string(cheap) + "'}]":                                     "want a hash of cost 10",
		"users: [{name: a, roles: [read], password_bcrypt: '" + strings.Replace(string(cheap), "$04$", "$31$", 1) + "'}]": "want a hash of cost 10 to 14",
		"users: [{name: a, roles: [read], password: hunter2}]":                                                            "line 1, column 34: unknown field",
		"users:\n  - name: a\n    token: hunter2\n":                                                                       "line 3, column 5",
	} {
		_, err := parseUsers([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %s", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the secret: %v", text, err)
		}
	}
}

// FuzzUsers has any file read: what is accepted has names, roles and one secret each,
// which somebody without one does not have.
func FuzzUsers(f *testing.F) {
	f.Add("users: [{name: a, roles: [push, read], token_sha256: " + sixtyFour + "}]")
	f.Add("users:\n  - name: b\n    roles: [policy]\n    certificate: '*'\n")
	f.Add("users:\n  - {name: c, roles: [read], password_bcrypt: '$2y$10$" + strings.Repeat("a", 53) + "'}\n")
	f.Add("a: &a [*a]\nusers: *a")
	f.Add("users:\n  - name:\n    roles: !00\n000000") // the library's decoder panics here
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseUsers([]byte(text))
		if err != nil {
			return
		}
		for _, one := range u.all {
			secrets := 0
			for _, there := range []bool{one.token != nil, one.password != nil, one.certificate != ""} {
				if there {
					secrets++
				}
			}
			if one.name == "" || one.roles == 0 || one.roles&^Everything != 0 || secrets != 1 {
				t.Errorf("accepted %s", fmt.Sprint(one.name, one.roles, secrets))
			}
		}
		if who, ok := u.byToken(shown{}); ok {
			t.Errorf("no token is that of %s", who.name)
		}
	})
}
