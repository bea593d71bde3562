// SPDX-License-Identifier: Apache-2.0

package minidebug

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// FuzzDecompress holds that any bytes end in a result within the limit, or in an error.
func FuzzDecompress(f *testing.F) {
	hello, err := hex.DecodeString( // printf hello | xz
		"fd377a585a000004e6d6b4460200210116000000742fe5a301000468656c6c6f000000b1370db1e5e9aa2b00011d05b82d80af1fb6f37d010000000004595a")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hello)
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		if content, err := decompress(bytes.NewReader(b), limit); len(content) > limit || err != nil && content != nil {
			t.Errorf("%d bytes, %v", len(content), err)
		}
	})
}
