// SPDX-License-Identifier: Apache-2.0

package unwind

import "bytes"

// Where signal handlers return to: mov $15,%rax; syscall with a nop in front, and
// mov x8,#139; svc #0.
var (
	signalReturnX86   = []byte{0x90, 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}
	signalReturnARM64 = []byte{0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4}
)

// signalReturns finds where signal handlers return to, and returns the addresses. The
// byte in front belongs to it, because that is what is looked up.
func (c *fromCode) signalReturns() (found []uint64) {
	pattern, starts := signalReturnX86, []int{0, 1}
	if c.link {
		pattern, starts = signalReturnARM64, []int{0}
	}
	id := c.state(codeState{kind: Signal})
	for _, g := range c.gaps {
		for from := 0; ; from += len(pattern) {
			i := bytes.Index(g.text[from:], pattern)
			if i < 0 {
				break
			}
			from += i
			for j := range pattern {
				g.at[from+j] = inside
			}
			for _, j := range starts {
				g.at[from+j] = id
			}
			found = append(found, g.start+uint64(from))
		}
	}
	return found
}

// signalFronts adds the byte in front on arm64: the last one of another function, unless
// that calls there, so that something else may return to the address.
func (c *fromCode) signalFronts(returns []uint64) {
	for _, addr := range returns {
		g := c.gap(addr)
		at := addr - g.start
		if !c.link || at < 4 {
			continue
		}
		if in, ok := c.decode(g.text[at-4:], addr-4); !ok || in.flow != flowCall {
			g.at[at-1] = c.state(codeState{kind: Signal})
		}
	}
}
