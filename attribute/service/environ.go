// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The environment variables of OpenTelemetry that name the service.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
const (
	variableService  = "OTEL_SERVICE_NAME"
	variableResource = "OTEL_RESOURCE_ATTRIBUTES"
	attributeService = "service.name"
)

// maxName bounds the bytes of a name; of a longer one nothing is taken.
const maxName = 255

// Declared gives the service that an environment names, "" if none; environ is as in
// proc_pid_environ(5). OTEL_SERVICE_NAME goes before service.name in
// OTEL_RESOURCE_ATTRIBUTES, and an empty variable is none, as the specification says.
// Of several variables of one name the first counts, as for getenv(3).
func Declared(environ []byte) string {
	var name, attributes []byte
	for rest := environ; len(rest) > 0; {
		var variable []byte
		variable, rest, _ = bytes.Cut(rest, []byte{0})
		key, value, found := bytes.Cut(variable, []byte("="))
		switch {
		case !found:
		case name == nil && string(key) == variableService:
			name = value
		case attributes == nil && string(key) == variableResource:
			attributes = value
		}
	}
	if name := strings.TrimSpace(string(name)); name != "" {
		return printable(name)
	}
	return printable(fromAttributes(string(attributes)))
}

// fromAttributes gives the service.name in a list key=value,key=value, the values
// percent-encoded. A list with an error in it is as good as none.
// https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable
func fromAttributes(list string) (name string) {
	if strings.TrimSpace(list) == "" {
		return ""
	}
	for pair := range strings.SplitSeq(list, ",") {
		key, value, found := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || key == "" || err != nil {
			return ""
		}
		if key == attributeService {
			name = value
		}
	}
	return name
}

// printable is a name that can be shown, "" of another.
func printable(name string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, hidden) {
		return ""
	}
	return name
}
