// SPDX-License-Identifier: Apache-2.0

package http2

// The code of RFC 7541, appendix B is canonical: codes of one length are
// consecutive numbers, given to symbols in ascending order, and go on from the
// next shorter length. So lengths and an order of symbols say it all.

// codeLength is the codes of one length.
type codeLength struct {
	bits uint
	// end is the first code that is longer, as the highest bits of 32.
	end uint32
	// first is the lowest code of this length, at its place in huffmanSymbols.
	first, at uint32
}

var huffmanLengths = [...]codeLength{
	{5, 0x50000000, 0, 0}, {6, 0xb8000000, 20, 10}, {7, 0xf8000000, 92, 36}, {8, 0xfe000000, 248, 68},
	{10, 0xff400000, 1016, 74}, {11, 0xffa00000, 2042, 79}, {12, 0xffc00000, 4090, 82}, {13, 0xfff00000, 8184, 84},
	{14, 0xfff80000, 16380, 90}, {15, 0xfffe0000, 32764, 92}, {19, 0xfffe6000, 524272, 95}, {20, 0xfffee000, 1048550, 98},
	{21, 0xffff4800, 2097116, 106}, {22, 0xffffb000, 4194258, 119}, {23, 0xffffea00, 8388568, 145},
	{24, 0xfffff600, 16777194, 174}, {25, 0xfffff800, 33554412, 186}, {26, 0xfffffbc0, 67108832, 190},
	{27, 0xfffffe20, 134217694, 205}, {28, 0xfffffff0, 268435426, 224}, {30, 0xfffffffc, 1073741820, 253},
}

// huffmanSymbols are the bytes in the order of their codes. The code after the
// last is the end-of-string symbol, which must not occur.
const huffmanSymbols = "012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\x00$@[]~^}<`{\\" +
	"\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0" +
	"\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d" +
	"\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1" +
	"\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe" +
	"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\x0a\x0d\x16"

// huffman decodes a string. It appends to dst while there is room in it, so
// that a nil dst only counts; n is how many bytes the string has.
func huffman(dst, src []byte) (decoded []byte, n int, ok bool) {
	var window uint64 // the bits not yet decoded, from the highest
	var have uint
	for {
		for have <= 56 && len(src) > 0 {
			window |= uint64(src[0]) << (56 - have)
			src, have = src[1:], have+8
		}
		if have == 0 {
			return dst, n, true
		}
		symbol, bits := symbolAt(uint32(window >> 32))
		if bits > have || bits == 0 {
			// What is left pads the last byte: the first bits of end of string,
			// all ones and fewer than eight.
			return dst, n, have < 8 && window>>(64-have) == 1<<have-1
		}
		if len(dst) < cap(dst) {
			dst = append(dst, symbol)
		}
		n++
		window, have = window<<bits, have-bits
	}
}

// symbolAt is the symbol that bits begin with; end of string has 0 bits.
func symbolAt(bits uint32) (symbol byte, n uint) {
	for i := range huffmanLengths {
		if l := &huffmanLengths[i]; bits < l.end {
			return huffmanSymbols[l.at+bits>>(32-l.bits)-l.first], l.bits
		}
	}
	return 0, 0
}
