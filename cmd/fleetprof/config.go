// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// config is a YAML file: the names of flags as keys, for all commands alike.
//
//	frequency: 19
//	store: [http://profiles.example:7171]
type config struct {
	keys   []*ast.MappingValueNode
	values map[string]any
}

// loadConfig reads the file of --config.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %s", yaml.FormatError(err, false, true))
	}
	c := &config{values: make(map[string]any)}
	for _, doc := range file.Docs {
		switch body := doc.Body.(type) {
		case nil, *ast.CommentGroupNode:
		case *ast.MappingNode:
			c.keys = append(c.keys, body.Values...)
		default:
			return nil, errors.New("read configuration: it is not a list of `name: value` lines")
		}
	}
	for _, key := range c.keys {
		var value any
		if err := yaml.NodeToValue(key.Value, &value); err != nil {
			return nil, fmt.Errorf("read configuration: %s", yaml.FormatError(err, false, true))
		}
		c.values[key.Key.String()] = value
	}
	return c, nil
}

// Validate refuses keys that are no flag of any command.
func (c *config) Validate(app *kong.Application) error {
	known := make(map[string]bool)
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, key := range c.keys {
		name := key.Key.String()
		if !known[name] {
			at := key.Key.GetToken().Position
			return fmt.Errorf("configuration line %d, column %d: %q is not the name of a flag (see fleetprof COMMAND --help)", at.Line, at.Column, name)
		}
	}
	return nil
}

// Resolve gives a flag its value from the file; nil where the file is silent
// or an environment variable speaks: that goes before the file, and the
// command line before both.
func (c *config) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return c.values[flag.Name], nil
}
