// SPDX-License-Identifier: Apache-2.0

package block

// EncodeMeta makes a meta.json that is sound, whatever it says.
func EncodeMeta(m Meta) ([]byte, error) { return m.encode() }
