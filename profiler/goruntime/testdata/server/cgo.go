// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

/*
static __thread long before[7];
static long touch(void) { return ++before[3]; }
*/
import "C"

func init() { C.touch() }
