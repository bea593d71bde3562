// SPDX-License-Identifier: Apache-2.0

package policy

// node is a value in a document, the same whether that is JSON or YAML.
type node struct {
	at place
	// value is a string, a number, a bool, a list, a mapping or nil.
	value any
}

type (
	// number is as it is written.
	number  string
	list    []node
	mapping []field
)

// field is one line of a mapping.
type field struct {
	at    place
	name  string
	value node
}

// maxDepth bounds how deep a document may be nested. The real ones have three
// levels.
const maxDepth = 8

// kind says in words what a value is.
func (n node) kind() string {
	switch n.value.(type) {
	case string:
		return "text"
	case number:
		return "a number"
	case bool:
		return "true or false"
	case list:
		return "a list"
	case mapping:
		return "a mapping"
	}
	return "nothing"
}
