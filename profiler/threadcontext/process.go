// SPDX-License-Identifier: Apache-2.0

package threadcontext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// Of the process context, see FORMAT.md.
	contextHeaderBytes = 32
	contextVersion     = 2
	maxPayload         = 64 << 10
	// maxKeys is what the index of a key, one byte, can tell apart.
	maxKeys = 256
	// maxTries bounds the reads of a context that changes meanwhile.
	maxTries = 3
)

// schemas are those of thread contexts in thread-local memory.
var schemas = [...]string{"tls_v1", "tlsdesc_v1_dev"}

// NamedOffset is where a process context has the time at which it was published last, a word,
// 0 while it changes. What threads publish has the names of Keys as long as this stays.
const NamedOffset = 16

// Keys reads, from the process context at an address, the names of the attributes that
// threads publish, and when they were named, in nanoseconds by the clock of the
// program. It returns ErrNone if the process publishes none of threads,
// ErrUnsupported for an unknown version or schema, ErrDamaged, or an error of mem,
// wrapped.
func Keys(mem io.ReaderAt, at uint64) (keys []string, named uint64, err error) {
	payload, named, err := payloadOf(memory{mem}, at)
	if err != nil {
		return nil, 0, fmt.Errorf("read process context: %w", err)
	}
	keys, err = parseKeys(payload)
	if err != nil {
		return nil, 0, fmt.Errorf("parse process context: %w", err)
	}
	return keys, named, nil
}

// payloadOf reads the message of a process context, whole: its time does not change
// meanwhile, and is not 0, as it is while it changes.
func payloadOf(m memory, at uint64) (payload []byte, published uint64, err error) {
	for range maxTries {
		h, err := m.bytes(at, contextHeaderBytes)
		if err != nil {
			return nil, 0, err
		}
		size, published := binary.LittleEndian.Uint32(h[12:]), binary.LittleEndian.Uint64(h[NamedOffset:])
		switch {
		case string(h[:8]) != "OTEL_CTX":
			return nil, 0, ErrNone
		case binary.LittleEndian.Uint32(h[8:]) != contextVersion:
			return nil, 0, ErrUnsupported
		case size > maxPayload:
			return nil, 0, fmt.Errorf("%d bytes: %w", size, ErrUnsupported)
		case published == 0:
			continue
		}
		payload, err := m.bytes(binary.LittleEndian.Uint64(h[24:]), int(size))
		if err != nil {
			return nil, 0, err
		}
		if again, err := m.word(at + NamedOffset); err != nil || again == published {
			return payload, published, err
		}
	}
	return nil, 0, errors.New("it changes all the time")
}

// Fields of opentelemetry.proto.processcontext.v1development.ProcessContext and of
// opentelemetry.proto.common.v1: KeyValue, AnyValue, ArrayValue.
const (
	contextAttributes = 2
	keyValueKey       = 1
	keyValueValue     = 2
	anyString         = 1
	anyArray          = 5
	arrayValues       = 1
)

func parseKeys(payload []byte) (keys []string, err error) {
	var schema string
	err = fields(payload, func(number uint64, attribute []byte) error {
		if number != contextAttributes {
			return nil
		}
		var key string
		var value []byte
		err := fields(attribute, func(number uint64, data []byte) error {
			switch number {
			case keyValueKey:
				key = string(data)
			case keyValueValue:
				value = data
			}
			return nil
		})
		if err != nil {
			return err
		}
		switch key {
		case "threadlocal.schema_version":
			schema, err = anyText(value)
		case "threadlocal.attribute_key_map":
			keys, err = anyTexts(value)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case schema == "":
		return nil, ErrNone
	case !slices.Contains(schemas[:], schema):
		return nil, fmt.Errorf("schema %.40q: %w", schema, ErrUnsupported)
	}
	return keys, nil
}

// anyText is the string of an AnyValue, empty if it is something else.
func anyText(value []byte) (text string, err error) {
	err = fields(value, func(number uint64, data []byte) error {
		if number == anyString {
			text = string(data)
		}
		return nil
	})
	return text, err
}

// anyTexts are the strings of an AnyValue that is an array.
func anyTexts(value []byte) (texts []string, err error) {
	err = fields(value, func(number uint64, array []byte) error {
		if number != anyArray {
			return nil
		}
		return fields(array, func(number uint64, data []byte) error {
			if number != arrayValues {
				return nil
			}
			if len(texts) == maxKeys {
				return fmt.Errorf("more than %d keys: %w", maxKeys, ErrDamaged)
			}
			text, err := anyText(data)
			texts = append(texts, text)
			return err
		})
	})
	return texts, err
}

// fields calls f for every field of a protobuf message that has a length.
// https://protobuf.dev/programming-guides/encoding/
func fields(b []byte, f func(number uint64, data []byte) error) error {
	const varint, fixed64, delimited, fixed32 = 0, 1, 2, 5
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return ErrDamaged
		}
		b = b[n:]
		var size uint64
		switch tag & 7 {
		case varint:
			_, n := binary.Uvarint(b)
			size = uint64(max(n, 0))
			if n <= 0 {
				return ErrDamaged
			}
		case fixed64:
			size = 8
		case fixed32:
			size = 4
		case delimited:
			if size, n = binary.Uvarint(b); n <= 0 {
				return ErrDamaged
			}
			b = b[n:]
		default:
			return ErrDamaged
		}
		if size > uint64(len(b)) {
			return ErrDamaged
		}
		if tag&7 == delimited {
			if err := f(tag>>3, b[:size]); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}

// Attributes are those that a thread publishes, in its order: of a key that comes twice
// the last one counts. known is false if a key is not among keys, which may have grown
// since they were read.
func Attributes(keys []string, data []byte) (all []sample.Attribute, known bool) {
	known = true
	for len(data) >= 2 {
		index, size := int(data[0]), int(data[1])
		if data = data[2:]; size > len(data) {
			break
		}
		value := data[:size]
		data = data[size:]
		if index >= len(keys) {
			known = false
			continue
		}
		all = append(all, sample.Attribute{Key: keys[index], Value: string(value)})
	}
	return all, known
}
