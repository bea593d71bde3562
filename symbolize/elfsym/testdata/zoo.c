// SPDX-License-Identifier: Apache-2.0

// A program with every kind of symbol that has to be told apart.

int data_object = 1;
_Thread_local int thread_local_object = 2;

static __attribute__((noinline)) int local_function(int a) { return a * 3 + data_object; }

__attribute__((noinline)) int global_function(int a) { return local_function(a) + thread_local_object; }

int alias_function(int a) __attribute__((weak, alias("global_function")));

static int plus_one(int a) { return a + 1; }
static int (*resolve_chosen(void))(int) { return plus_one; }
int chosen(int a) __attribute__((ifunc("resolve_chosen")));

// A function with an untyped label inside, an untyped function of no size
// behind it, and a private label that the assembler was told to keep.
__asm__(".text\n"
	".globl sized\n"
	".type sized, @function\n"
	"sized:\n"
	"	nop\n"
	"label_inside:\n"
	"	nop\n"
	"	ret\n"
	".size sized, .-sized\n"
	".globl untyped\n"
	"untyped:\n"
	"	nop\n"
	"$x.1:\n"
	"	nop\n"
	"	ret\n"
	".globl after_untyped\n"
	".type after_untyped, @function\n"
	"after_untyped:\n"
	"	ret\n"
	".size after_untyped, .-after_untyped\n"
	// A small function inside of a large one.
	".globl outer\n"
	".type outer, @function\n"
	"outer:\n"
	"	nop\n"
	".globl inner\n"
	".type inner, @function\n"
	"inner:\n"
	"	nop\n"
	".size inner, .-inner\n"
	"	nop\n"
	"	ret\n"
	".size outer, .-outer\n");

extern int sized(void), untyped(void), after_untyped(void), outer(void);

int main(int argc, char **argv) {
	(void)argv;
	return global_function(argc) + alias_function(argc) + chosen(argc) + sized() + untyped() +
	       after_untyped() + outer();
}
