// SPDX-License-Identifier: Apache-2.0

package perfmap

import (
	"bytes"
	"testing"
)

// FuzzUpdate holds that a file of any bytes, read in two parts, gives the names that it gives when it
// is read at once, and never more memory than allowed.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte("1000 10 one\n1008 10 two\n2000 20 three"), uint16(14), uint64(0x1008))
	f.Add([]byte("0x1000 0x10 a b\r\n\n\xff 1 x\n1 1 y\n"), uint16(3), uint64(1))
	f.Fuzz(func(t *testing.T, content []byte, cut uint16, addr uint64) {
		const limit = 64 << 10
		file := bytes.NewReader(content)
		whole := Open(file, limit)
		wholeErr := whole.Update(int64(len(content)))
		parts := Open(file, limit)
		if err := parts.Update(min(int64(cut), int64(len(content)))); err != nil && wholeErr == nil {
			t.Fatalf("a part: %v", err)
		}
		parts.Update(int64(len(content)))
		for _, a := range []uint64{addr, 0x1000, 0} {
			one, err := whole.Lookup(a)
			if err != nil {
				t.Fatal(err)
			}
			if two, err := parts.Lookup(a); one != two || err != nil {
				t.Errorf("%#x: %+v at once, %+v in parts, %v", a, one, two, err)
			}
		}
		if whole.Bytes() > 2*limit {
			t.Errorf("%d bytes", whole.Bytes())
		}
	})
}
