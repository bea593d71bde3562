// SPDX-License-Identifier: Apache-2.0

// Package config reads the one configuration file: YAML, with the names of the flags
// as keys, and with the keys that are no flags. What is wrong with a file is said
// with its place and with what would be right.
//
//	frequency: 19
//	store: [http://profiles.example:7171]
//	relabel_configs:
//	  - source_labels: [__meta_process_executable_name]
//	    regex: backup
//	    action: drop
//
// Only plain values, lists and mappings are read, nothing is computed: no anchors, no
// aliases, no tags, one document.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/fleetprof/fleetprof/attribute/relabel"
)

const (
	// maxBytes bounds a file.
	maxBytes = 1 << 20
	// maxNesting bounds how deep values are nested in one line. The parser is
	// quadratic in it, and nothing we read is nested deeper than three.
	maxNesting = 16
)

// keyRelabel is the key of relabelling rules, which are no flag.
const keyRelabel = "relabel_configs"

// File is a configuration file that was read. It is never changed.
type File struct {
	// Rules are those of relabel_configs.
	Rules relabel.Rules

	path, digest string
	// entries are the keys that name flags, with their values, in their order.
	entries []*ast.MappingValueNode
}

// Error is what is wrong at one place of a file.
type Error struct {
	Path string
	// Line and Column count from 1, the column in characters.
	Line, Column int
	Reason       string
}

// Error gives the place as compilers do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Reason)
}

// Load reads a file and checks all of it that can be checked without the flags.
func Load(path string) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	f.digest = digest(text, nil)
	return f, nil
}

// Read gives the text of a file of at most 1 MiB, which must be one that can be read again.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return text, nil
}

// Parse reads the text of a file. Errors name path, and are *[Error].
func Parse(path string, text []byte) (*File, error) {
	f := &File{path: path}
	body, err := f.document(text)
	if err != nil || body == nil {
		return f, err // an empty file says nothing
	}
	for _, entry := range body.Values {
		if _, plain := entry.Key.(*ast.StringNode); !plain {
			return nil, f.at(entry.Key, "a key must be a plain name")
		}
		if keyOf(entry) != keyRelabel {
			f.entries = append(f.entries, entry)
			continue
		}
		if f.Rules, err = f.rules(entry); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// document gives the one mapping that a file is; nil if it is empty.
func (f *File) document(text []byte) (*ast.MappingNode, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if valid := len(bytes.ToValidUTF8(text, nil)); valid != len(text) {
		return nil, f.notUTF8(text)
	}
	tokens := lexer.Tokenize(string(text))
	if deep := nested(tokens); deep != nil {
		return nil, f.place(deep, "values are nested too deep")
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, f.syntax(err)
	}
	var body ast.Node
	for _, doc := range parsed.Docs {
		switch doc.Body.(type) {
		case nil, *ast.CommentGroupNode:
			continue
		}
		if body != nil {
			return nil, f.at(doc.Body, "a second document: there must be only one")
		}
		body = doc.Body
	}
	if body == nil {
		return nil, nil
	}
	mapping, ok := body.(*ast.MappingNode)
	if !ok {
		return nil, f.at(body, "not a mapping: write lines such as `frequency: 19`")
	}
	return mapping, nil
}

// syntax is an error of the YAML parser.
func (f *File) syntax(err error) error {
	var bad yaml.Error
	if errors.As(err, &bad) && bad.GetToken() != nil {
		return f.place(bad.GetToken(), bad.GetMessage())
	}
	return &Error{f.path, 1, 1, err.Error()}
}

// notUTF8 finds the first byte that is not UTF-8.
func (f *File) notUTF8(text []byte) error {
	i := 0
	for {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		i += size
	}
	start := bytes.LastIndexByte(text[:i], '\n') + 1
	return &Error{f.path, bytes.Count(text[:i], []byte("\n")) + 1, utf8.RuneCount(text[start:i]) + 1, "not UTF-8"}
}

// nested gives the token at which nesting within one line goes too deep; nil if it
// does not.
func nested(tokens token.Tokens) *token.Token {
	flow, block, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			block, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			block++
		}
		if flow > maxNesting || block > maxNesting {
			return t
		}
	}
	return nil
}

// at says what is wrong with a value.
func (f *File) at(n ast.Node, format string, args ...any) error {
	return f.place(first(n), fmt.Sprintf(format, args...))
}

func (f *File) place(t *token.Token, reason string) error {
	return &Error{f.path, t.Position.Line, t.Position.Column, reason}
}

// first is the token that a value begins with. That of a mapping in block style is its
// first colon.
func first(n ast.Node) *token.Token {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return m.Values[0].Key.GetToken()
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return m.Key.GetToken()
	}
	return n.GetToken()
}

// keyOf is the name of an entry.
func keyOf(entry *ast.MappingValueNode) string { return entry.Key.GetToken().Value }

// text is a plain value as it is written, quotes and escapes undone.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// kind names what a value is instead of what was wanted.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias, which are not supported"
	case *ast.TagNode:
		return "a tag, which is not supported"
	}
	if s, ok := text(n); ok {
		return fmt.Sprintf("%.60q", s)
	}
	return n.Type().String()
}
