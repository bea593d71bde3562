// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// diverseFunctions makes about 1.3 MB of code and 65,000 rows of call frame
// information.
const diverseFunctions = 4000

// diverseHead and diverseTail stand around the functions. Each calls another
// one at random until the chain has its length; the last burns about a
// millisecond, and all return.
const (
	diverseHead = `#include <stdlib.h>

struct chain {
	unsigned long random;
	volatile unsigned long in; // cannot be computed again after a call
	volatile int leave;
};

typedef unsigned long link(struct chain *c, long left);

static link *const links[];
static volatile unsigned long sink;

__attribute__((noinline)) static link *next(struct chain *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return links[c->random %% %d];
}

__attribute__((noinline)) static unsigned long bottom(void)
{
	for (long i = 0; i < 500000; i++)
		sink += i;
	return sink;
}
`
	diverseTail = `
int main(int argc, char **argv)
{
	struct chain c = {.random = 88172645463325252};
	long length = argc > 1 ? atol(argv[1]) : 0;

	for (;;)
		sink += next(&c)(&c, length);
}
`
)

// diverseSource writes a C program of functions of which no two have the same
// frame. Its argument is how many of them call each other.
func diverseSource(b *testing.B, name string, functions int) (path string) {
	b.Helper()
	source, err := os.Create(b.TempDir() + "/" + name + ".c")
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriter(source)
	writeDiverse(out, functions)
	if err := errors.Join(out.Flush(), source.Close()); err != nil {
		b.Fatal(err)
	}
	return source.Name()
}

// writeDiverse writes the C program; it is the same every time.
func writeDiverse(w io.Writer, functions int) {
	random := rand.New(rand.NewPCG(3, 1024))
	fmt.Fprintf(w, diverseHead, functions)
	for i := range functions {
		writeLink(w, i, random)
	}
	fmt.Fprintf(w, "\nstatic link *const links[] = {")
	for i := range functions {
		fmt.Fprintf(w, "f%d,", i)
	}
	fmt.Fprintf(w, "};\n%s", diverseTail)
}

// writeLink writes one function: up to six values that live across the call and
// so in saved registers, up to 240 bytes of other frame, a way out before all
// that is set up and one after the call.
func writeLink(w io.Writer, number int, random *rand.Rand) {
	fmt.Fprintf(w, "\n__attribute__((noinline)) static unsigned long f%d(struct chain *c, long left)\n{\n", number)
	fmt.Fprintf(w, "\tif (c->leave == %d)\n\t\treturn %d;\n", number+1, random.Uint32())
	room := 16 * random.IntN(16)
	if room > 0 {
		fmt.Fprintf(w, "\tvolatile char room[%d];\n\troom[left %% %d] = left;\n", room, room)
	}
	live := random.IntN(7)
	for i := range live {
		fmt.Fprintf(w, "\tunsigned long v%d = c->in * %d;\n", i, random.Uint32()|1)
	}
	for range 1 + random.IntN(6) {
		fmt.Fprintf(w, "\tc->in = (c->in << %d) + %d;\n", 1+random.IntN(30), random.Uint32())
	}
	fmt.Fprintf(w, "\tunsigned long r = left > 1 ? next(c)(c, left - 1) : bottom();\n")
	fmt.Fprintf(w, "\tif (c->leave) {\n\t\tc->in = r;\n\t\treturn %d;\n\t}\n", random.Uint32())
	for i := range live {
		fmt.Fprintf(w, "\tr = (r ^ v%d) * %d;\n", i, random.Uint32()|1)
	}
	if room > 0 {
		fmt.Fprintf(w, "\tr += room[r %% %d];\n", room)
	}
	fmt.Fprintf(w, "\treturn r;\n}\n")
}
