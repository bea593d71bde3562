// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// ParseJSON reads a document in JSON, the form in which it travels. The bytes may
// be anybody's: time and memory are bounded by their number. The error is Faults.
func ParseJSON(text []byte) (Policy, error) {
	root, err := parseJSON(text)
	if err != nil {
		return Policy{}, err
	}
	return readPolicy(root)
}

// jsonReader makes nodes of JSON. It goes by tokens, because the position of each
// is needed, and two fields of one name are to be seen.
type jsonReader struct {
	text    []byte
	decoder *json.Decoder
	// offset, line and lineStart are of the token read last.
	offset, line, lineStart int
}

func parseJSON(text []byte) (node, error) {
	if err := checkText(text); err != nil {
		return node{}, err
	}
	r := &jsonReader{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), line: 1}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err == nil {
		if _, more := r.decoder.Token(); more == nil {
			err = Faults{r.at().fault(0, "there is more after the end of the document")}
		} else if !errors.Is(more, io.EOF) {
			err = r.broken(more)
		}
	}
	return root, err
}

// checkText refuses what is no document whatever its form.
func checkText(text []byte) error {
	if len(text) > MaxBytes {
		return Faults{{Reason: fmt.Sprintf("document of %d bytes: want at most %d", len(text), MaxBytes)}}
	}
	if !utf8.Valid(text) {
		return Faults{{Reason: "the document is not UTF-8"}}
	}
	return nil
}

// next is the next token. The decoder says where the one before it ended, so its
// own place is behind white space and punctuation from there on.
func (r *jsonReader) next() (json.Token, error) {
	before := int(r.decoder.InputOffset())
	token, err := r.decoder.Token()
	if err != nil {
		return nil, r.broken(err)
	}
	r.moveTo(before + punctuation(r.text[before:]))
	return token, nil
}

func punctuation(text []byte) int { return len(text) - len(bytes.TrimLeft(text, " \t\r\n,:")) }

// moveTo notes the line of an offset; it only ever goes forward.
func (r *jsonReader) moveTo(offset int) {
	passed := r.text[r.offset:offset]
	if last := bytes.LastIndexByte(passed, '\n'); last >= 0 {
		r.line += bytes.Count(passed, []byte{'\n'})
		r.lineStart = r.offset + last + 1
	}
	r.offset = offset
}

// at is the place of the token read last.
func (r *jsonReader) at() place {
	return place{r.line, utf8.RuneCount(r.text[r.lineStart:r.offset]) + 1}
}

// broken says where the text stops being JSON.
func (r *jsonReader) broken(err error) error {
	offset := int(r.decoder.InputOffset())
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset = max(int(syntax.Offset)-1, offset) // it counts the byte it did not like
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the document ends in the middle")
		offset = len(r.text)
	}
	r.moveTo(max(r.offset, min(offset, len(r.text))))
	return Faults{r.at().fault(0, "not JSON: %v", err)}
}

func (r *jsonReader) value(depth int) (node, error) {
	token, err := r.next()
	if err != nil {
		return node{}, err
	}
	n := node{at: r.at()}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return node{}, Faults{n.at.fault(0, "nested too deep")}
		}
		n.value, err = r.inside(token, depth)
	case json.Number:
		n.value = number(token)
	default:
		n.value = token
	}
	return n, err
}

// inside reads what an opening bracket holds, with the closing one.
func (r *jsonReader) inside(open json.Delim, depth int) (any, error) {
	items, fields := list{}, mapping{}
	for r.decoder.More() {
		f := field{}
		if open == '{' {
			name, err := r.next()
			if err != nil {
				return nil, err
			}
			f.at, f.name = r.at(), name.(string) // the decoder takes nothing else there
		}
		var err error
		if f.value, err = r.value(depth + 1); err != nil {
			return nil, err
		}
		items, fields = append(items, f.value), append(fields, f)
	}
	if _, err := r.next(); err != nil {
		return nil, err
	}
	if open == '{' {
		return fields, nil
	}
	return items, nil
}
