// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ParseYAML reads a document in YAML, the form in which people write it; what
// looks like JSON is read as that. It is for a user's own files: the time that
// the YAML library takes grows with the square of what is nested. The error is
// Faults.
func ParseYAML(text []byte) (Policy, error) {
	if strings.HasPrefix(strings.TrimSpace(string(text)), "{") {
		return ParseJSON(text)
	}
	if err := checkText(text); err != nil {
		return Policy{}, err
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return Policy{}, notYAML(err)
	}
	root := node{at: place{1, 1}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if root.value != nil {
			return Policy{}, Faults{placeOf(doc.Body).fault(0, "a second document: want one only")}
		}
		if root, err = yamlNode(doc.Body, 0); err != nil {
			return Policy{}, err
		}
	}
	return readPolicy(root)
}

// notYAML takes the position out of an error of the parser.
func notYAML(err error) Faults {
	var at place
	var syntax yaml.Error
	reason := err.Error()
	if errors.As(err, &syntax) {
		reason = syntax.GetMessage()
		if token := syntax.GetToken(); token != nil && token.Position != nil {
			at = place{token.Position.Line, token.Position.Column}
		}
	}
	return Faults{at.fault(0, "not YAML: %s", reason)}
}

// placeOf is where a value begins: a mapping with its first field.
func placeOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOf(m.Values[0].Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return place{t.Position.Line, t.Position.Column}
	}
	return place{}
}

// yamlNode turns the library's tree into ours. Anchors, tags and merge keys are
// refused: a policy has no use for them, and JSON could not say the same.
func yamlNode(from ast.Node, depth int) (node, error) {
	n := node{at: placeOf(from)}
	if depth > maxDepth {
		return n, Faults{n.at.fault(0, "nested too deep")}
	}
	var err error
	switch from := from.(type) {
	case *ast.StringNode:
		n.value = from.Value
	case *ast.LiteralNode:
		n.value = from.Value.Value
	case *ast.IntegerNode:
		n.value = number(from.Token.Value)
	case *ast.FloatNode:
		n.value = number(from.Token.Value)
	case *ast.BoolNode:
		n.value = from.Value
	case *ast.NullNode:
	case *ast.SequenceNode:
		n.value, err = yamlList(from, depth)
	case *ast.MappingNode:
		n.value, err = yamlMapping(from, depth)
	default:
		err = Faults{n.at.fault(0, "a policy is written without anchors, aliases, tags and merge keys")}
	}
	return n, err
}

func yamlList(from *ast.SequenceNode, depth int) (list, error) {
	all := list{}
	for _, v := range from.Values {
		item, err := yamlNode(v, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

func yamlMapping(from *ast.MappingNode, depth int) (mapping, error) {
	all := mapping{}
	for _, v := range from.Values {
		at := placeOf(v.Key)
		name, ok := v.Key.(*ast.StringNode)
		if !ok {
			return nil, Faults{at.fault(0, "want a name before the colon")}
		}
		value, err := yamlNode(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, field{at, name.Value, value})
	}
	return all, nil
}
