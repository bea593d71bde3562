// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// readEntries reads the YAML of the file: plain values, lists and mappings only, no
// anchors, aliases and tags. Errors have the place and never what stands there, which
// may be a secret in the wrong place.
func readEntries(text []byte) ([]entry, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, notYAML(err)
	}
	var entries []entry
	documents := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if documents++; documents > 1 {
			return nil, at(doc.Body, "a second document: want one only")
		}
		err := eachField(doc.Body, func(key string, value ast.Node) (known bool, err error) {
			entries, err = eachValue(value, readEntry)
			return key == "users", err
		})
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func readEntry(n ast.Node) (e entry, err error) {
	texts := map[string]*string{
		"name": &e.name, "token_sha256": &e.tokenSHA256, "password_bcrypt": &e.passwordBcrypt, "certificate": &e.certificate,
	}
	err = eachField(n, func(key string, value ast.Node) (known bool, err error) {
		if key == "roles" {
			e.roles, err = eachValue(value, plain)
			return true, err
		}
		if to := texts[key]; to != nil {
			*to, err = plain(value)
			return true, err
		}
		return false, nil
	})
	return e, err
}

// eachField calls read with the fields of a mapping, each of which it must know and
// none of which may be there twice.
func eachField(n ast.Node, read func(key string, value ast.Node) (known bool, err error)) error {
	mapping, ok := n.(*ast.MappingNode)
	if !ok {
		return at(n, "want a mapping")
	}
	seen := make(map[string]bool)
	for _, field := range mapping.Values {
		key, err := plain(field.Key)
		if err != nil {
			return err
		}
		if seen[key] {
			return at(field.Key, "the field is there twice")
		}
		seen[key] = true
		known, err := read(key, field.Value)
		if !known {
			return at(field.Key, "unknown field: want users, and of each user name, roles, and one of token_sha256, password_bcrypt and certificate")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachValue[T any](n ast.Node, read func(ast.Node) (T, error)) (all []T, err error) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, at(n, "want a list")
	}
	for _, value := range sequence.Values {
		one, err := read(value)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// plain is the text of a value as it is written: a hash may look like a number.
func plain(n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, nil
	}
	return "", at(n, "want a text")
}

func at(n ast.Node, reason string) error {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return errors.New(reason)
	}
	place := n.GetToken().Position
	return fmt.Errorf("line %d, column %d: %s", place.Line, place.Column, reason)
}

// notYAML takes the place out of an error of the parser, and leaves out the lines
// around it.
func notYAML(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil || syntax.GetToken().Position == nil {
		return errors.New("not YAML")
	}
	place := syntax.GetToken().Position
	return fmt.Errorf("line %d, column %d: not YAML", place.Line, place.Column)
}
