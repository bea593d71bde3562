// SPDX-License-Identifier: Apache-2.0

package threadcontext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// field is a protobuf field with a length.
func field(number int, parts ...[]byte) []byte {
	data := slices.Concat(parts...)
	return slices.Concat([]byte{byte(number<<3 | 2)}, binary.AppendUvarint(nil, uint64(len(data))), data)
}

func text(s string) []byte { return field(1, []byte(s)) }

func attribute(key string, value []byte) []byte {
	return field(2, field(1, []byte(key)), field(2, value))
}

func array(texts ...string) []byte {
	var values [][]byte
	for _, s := range texts {
		values = append(values, field(1, text(s)))
	}
	return field(5, values...)
}

// context is a process context at address 0, its payload behind it.
func context(payload []byte) []byte {
	b := []byte("OTEL_CTX")
	b = binary.LittleEndian.AppendUint32(b, 2)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, 77)
	b = binary.LittleEndian.AppendUint64(b, contextHeaderBytes)
	return append(b, payload...)
}

func TestKeys(t *testing.T) {
	schema, keys := "threadlocal.schema_version", "threadlocal.attribute_key_map"
	resource := field(1, field(1, field(1, []byte("service.name")), field(2, text("shop"))))
	other := slices.Concat(attribute("a", []byte{0x18, 7}), attribute("b", []byte{0x21, 1, 2, 3, 4, 5, 6, 7, 8}))
	whole := slices.Concat(resource, other, attribute(keys, array("http.route", "", "user.id")), attribute(schema, text("tls_v1")))
	changed := func(at int, b byte) []byte {
		c := context(whole)
		c[at] = b
		return c
	}
	for name, c := range map[string]struct {
		memory []byte
		want   []string
		err    error
	}{
		"whole":              {context(whole), []string{"http.route", "", "user.id"}, nil},
		"development":        {context(slices.Concat(attribute(schema, text("tlsdesc_v1_dev")), attribute(keys, array("a")))), []string{"a"}, nil},
		"no keys":            {context(attribute(schema, text("tls_v1"))), nil, nil},
		"nothing of threads": {context(resource), nil, ErrNone},
		"empty":              {context(nil), nil, ErrNone},
		"of Go":              {context(attribute(schema, text("go_pprof_labels_v1"))), nil, ErrUnsupported},
		"schema a number":    {context(attribute(schema, []byte{0x18, 1})), nil, ErrNone},
		"257 keys":           {context(slices.Concat(attribute(schema, text("tls_v1")), attribute(keys, array(make([]string, 257)...)))), nil, ErrDamaged},
		"other signature":    {changed(0, 'o'), nil, ErrNone},
		"version 1":          {changed(8, 1), nil, ErrUnsupported},
		"1 MiB":              {changed(14, 0x10), nil, ErrUnsupported},
		"changing":           {changed(16, 0), nil, nil},
		"cut":                {context(whole)[:40], nil, nil},
		"bad length":         {context([]byte{0x12, 0xff}), nil, ErrDamaged},
		"bad type":           {context([]byte{0x13}), nil, ErrDamaged},
	} {
		got, _, err := Keys(bytes.NewReader(c.memory), 0)
		fails := c.err != nil || name == "changing" || name == "cut"
		if !slices.Equal(got, c.want) || c.err != nil && !errors.Is(err, c.err) || (err != nil) != fails {
			t.Errorf("%s: got %q, %v; want %q, %v", name, got, err, c.want, c.err)
		}
	}
}

func TestAttributes(t *testing.T) {
	keys := []string{"http.route", "user"}
	for data, want := range map[string]struct {
		all   []sample.Attribute
		known bool
	}{
		"":                                    {nil, true},
		"\x00\x02/a\x01\x04jane":              {[]sample.Attribute{{Key: "http.route", Value: "/a"}, {Key: "user", Value: "jane"}}, true},
		"\x00\x02/a\x00\x00":                  {[]sample.Attribute{{Key: "http.route", Value: "/a"}, {Key: "http.route"}}, true},
		"\x02\x01x\x00\x02/a":                 {[]sample.Attribute{{Key: "http.route", Value: "/a"}}, false},
		"\x00\x02/a\x01":                      {[]sample.Attribute{{Key: "http.route", Value: "/a"}}, true},
		"\x00\x02/a\x01\xffjane":              {[]sample.Attribute{{Key: "http.route", Value: "/a"}}, true},
		"\x01\xff" + strings.Repeat("x", 255): {[]sample.Attribute{{Key: "user", Value: strings.Repeat("x", 255)}}, true},
	} {
		if all, known := Attributes(keys, []byte(data)); !slices.Equal(all, want.all) || known != want.known {
			t.Errorf("%q: got %v, %v", data, all, known)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add(slices.Concat(attribute("threadlocal.attribute_key_map", array("a", "b")), attribute("threadlocal.schema_version", text("tls_v1"))))
	f.Fuzz(func(t *testing.T, payload []byte) {
		keys, _, err := Keys(bytes.NewReader(context(payload)), 0)
		if len(keys) > maxKeys || err != nil && keys != nil {
			t.Errorf("%d keys, error %v", len(keys), err)
		}
		Attributes(keys, payload)
	})
}

// FuzzFind looks for the variable in an image that contradicts itself.
func FuzzFind(f *testing.F) {
	f.Add(library(f), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, image []byte, at uint16, b byte) {
		if int(at) < len(image) {
			image[at] = b
		}
		p, err := Find(bytes.NewReader(image), 0, b%2 == 0, Glibc)
		if err == nil && (p.Module > maxModule || p.Offset > staticBytes+64 || p.Offset < -2*staticBytes) {
			t.Errorf("found at %+v", p)
		}
	})
}
