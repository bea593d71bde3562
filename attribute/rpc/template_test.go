// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"strings"
	"testing"
)

var templates = []struct{ path, want string }{
	{"/", "/"},
	{"/items", "/items"},
	{"/items/", "/items/"},
	{"/items/42", "/items/{number}"},
	{"/api/v1/users/1234/orders", "/api/v1/users/{number}/orders"},
	{"/api/1.0/users", "/api/{number}/users"},
	{"/api/v2beta1/x", "/api/v2beta1/x"},
	{"/oauth2/token", "/oauth2/token"},
	{"/s3/k8s/i18n/sha256/x509", "/s3/k8s/i18n/sha256/x509"},
	{"/o/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/o/{uuid}"},
	{"/o/3F2504E0-4F89-11D3-9A0C-0305E82C3301/x", "/o/{uuid}/x"},
	{"/c/deadbeef1", "/c/{hash}"},
	{"/c/d41d8cd98f00b204e9800998ecf8427e", "/c/{hash}"},
	{"/feedback/facade/deadbeef", "/feedback/facade/deadbeef"},
	{"/day/2026-08-01", "/day/{date}"},
	{"/u/jane@example.com", "/u/{id}"},
	{"/u/J%C3%BCrgen", "/u/{id}"},
	{"/u/J\xc3\xbcrgen", "/u/{id}"},
	{"/u/\xff", "/u/{id}"},
	{"/u/{x}", "/u/{id}"},
	{"/t/dQw4w9WgXcQ", "/t/{id}"},
	{"/t/eyJhbGciOiJIUzI1NiJ9", "/t/{id}"},
	{"/t/QmFzZVNpeHRGb3VyRW5jb2RlZA", "/t/{id}"},
	{"/getUserAccountBalanceHistory", "/getUserAccountBalanceHistory"},
	{"/order-12345", "/{id}"},
	{"/order12345", "/{id}"},
	{"/static/app.js", "/static/app.js"},
	{"/static/app.3f2a9c.js", "/static/{hash}.js"},
	{"/static/8f14e45fceea167a.css", "/static/{hash}.css"},
	{"/img/1234.png", "/img/{number}.png"},
	{"/cart;jsessionid=A1B2C3D4/x", "/cart/x"},
	{"/v1/items:batchGet", "/v1/items:batchGet"},
	{"/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"},
	{"/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/{rest}"},
	{"/" + strings.Repeat("x", 65), "/{id}"},
	{"/" + strings.Repeat("x", 60) + "/" + strings.Repeat("y", 60), "/" + strings.Repeat("x", 60) + "/{rest}"},
	{"//", "//"},
	{"*", "*"},
	{"authority", "{authority}"},
}

func TestTemplate(t *testing.T) {
	for _, tt := range templates {
		if got := string(appendTemplate(nil, []byte(tt.path), false)); got != tt.want {
			t.Errorf("%s gives %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestTemplateOfACutPath(t *testing.T) {
	for path, want := range map[string]string{"/items/4": "/items/{rest}", "/items/": "/items/{rest}", "/it": "/{rest}"} {
		if got := string(appendTemplate(nil, []byte(path), true)); got != want {
			t.Errorf("%s gives %s, want %s", path, got, want)
		}
	}
}
