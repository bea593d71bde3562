// SPDX-License-Identifier: Apache-2.0

package jitdump

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzUpdate holds that a file of any bytes, read in two parts, gives the frames that it gives when it
// is read at once, and never more memory than allowed.
func FuzzUpdate(f *testing.F) {
	d := newDump(binary.LittleEndian)
	d.lines(0x1000, entry{0x1000, 10, "/a.c"}, entry{0x1010, 11, "\xff"})
	d.load(0x1000, 0x20, "one")
	d.move(0x1000, 0x1010, 0x20)
	d.load(0x2000, 0x20, "two")
	f.Add(d.bytes, uint16(70), uint64(0x1018))
	big := newDump(binary.BigEndian)
	big.load(0x1000, 0x20, "one")
	f.Add(big.bytes, uint16(50), uint64(0x1000))
	f.Fuzz(func(t *testing.T, content []byte, cut uint16, addr uint64) {
		const limit = 64 << 10
		file := bytes.NewReader(content)
		whole, parts := Open(file, limit), Open(file, limit)
		whole.Update(int64(len(content)))
		parts.Update(min(int64(cut), int64(len(content))))
		parts.Update(int64(len(content)))
		for _, a := range []uint64{addr, 0x1000, 0} {
			one, oneErr := whole.Lookup(a)
			two, twoErr := parts.Lookup(a)
			if one != two || (oneErr == nil) != (twoErr == nil) {
				t.Errorf("%#x: %+v, %v at once, %+v, %v in parts", a, one, oneErr, two, twoErr)
			}
		}
		if whole.Bytes() > 2*limit {
			t.Errorf("%d bytes", whole.Bytes())
		}
	})
}
