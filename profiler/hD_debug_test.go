// SPDX-License-Identifier: Apache-2.0

package profiler

import ("testing";"debug/elf";"math/rand/v2")

func TestHDDebug(t *testing.T) {
	h := startHarness(t, "/tmp/hD-mut/h")
	v := &inventor{Rand: rand.New(rand.NewPCG(476, 0)), machine: elf.EM_AARCH64}
	walkInvented(t, h, v, 5, func(w kernelWalk) { h.errors.Reset() })
}
