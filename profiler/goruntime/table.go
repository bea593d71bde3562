// SPDX-License-Identifier: Apache-2.0

package goruntime

func goOffsets(minor int) (offsets, bool) { return offsets{}, false }
