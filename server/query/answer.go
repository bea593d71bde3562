// SPDX-License-Identifier: Apache-2.0

package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// answer is what a query is answered with. It is kept until it is whole: so an error can still
// be told, and a client that reads slowly keeps no other from its turn.
type answer struct {
	header http.Header
	claim  *claim
	chunks [][]byte
	bytes  int64
}

// chunkBytes is how much an answer grows at a time.
const chunkBytes = 16 << 10

// Write fails when the query has no memory left.
func (a *answer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		last := len(a.chunks) - 1
		if last < 0 || len(a.chunks[last]) == cap(a.chunks[last]) {
			if err := a.claim.more(chunkBytes); err != nil {
				return n, err
			}
			a.chunks = append(a.chunks, make([]byte, 0, chunkBytes))
			last++
		}
		chunk := a.chunks[last]
		taken := copy(chunk[len(chunk):cap(chunk)], b[n:])
		a.chunks[last] = chunk[:len(chunk)+taken]
		n += taken
	}
	a.bytes += int64(n)
	return n, nil
}

// send is called when the query has nothing else in memory.
func (a *answer) send(w http.ResponseWriter) error {
	if err := a.claim.hold(int64(len(a.chunks)) * chunkBytes); err != nil {
		return err
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.FormatInt(a.bytes, 10))
	for _, chunk := range a.chunks {
		if _, err := w.Write(chunk); err != nil {
			return &brokenAnswerError{err}
		}
	}
	return nil
}

// object writes one object of JSON, field by field.
type object struct {
	to  *answer
	err error
	n   int
}

func (a *answer) object() *object {
	a.header.Set("Content-Type", "application/json")
	return &object{to: a}
}

// field writes any value; lists are better written as arrays.
func (o *object) field(name string, value any) {
	o.name(name)
	o.value(value)
}

// array writes a list, element by element.
func array[T any](o *object, name string, all []T) {
	o.name(name)
	o.text("[")
	for i, one := range all {
		if i > 0 {
			o.text(",")
		}
		o.value(one)
	}
	o.text("]")
}

func (o *object) name(name string) {
	separator := "{"
	if o.n > 0 {
		separator = ","
	}
	o.n++
	o.text(separator + strconv.Quote(name) + ":")
}

func (o *object) value(v any) {
	if o.err != nil {
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		o.err = fmt.Errorf("write answer: %w", err)
		return
	}
	_, o.err = o.to.Write(text)
}

func (o *object) text(s string) {
	if o.err == nil {
		_, o.err = o.to.Write([]byte(s))
	}
}

// close writes the end of the object, end that of the answer.
func (o *object) close() error {
	o.text("}")
	return o.err
}

func (o *object) end() error {
	o.text("}\n")
	return o.err
}
