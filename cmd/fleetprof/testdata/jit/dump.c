// SPDX-License-Identifier: Apache-2.0
// Generates functions that burn CPU time in known parts and tells of them in a jitdump, which is
// deleted when all is told. It prints how much each function had, in microseconds.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef void (*function)(uint64_t);

static FILE *dump;
static uint8_t *memory, *next;

static void put(const void *bytes, size_t n) { fwrite(bytes, 1, n, dump); }
static void put32(uint32_t v) { put(&v, 4); }
static void put64(uint64_t v) { put(&v, 8); }

static uint64_t clock_of(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void record(uint32_t id, uint32_t size)
{
	put32(id);
	put32(16 + size);
	put64(clock_of(CLOCK_MONOTONIC));
}

// line tells that code from an offset on is made from one line, and what is before from another.
static void lines(uint64_t code, const char *file, uint32_t first, uint64_t offset, uint32_t second)
{
	record(2, 16 + 16 + strlen(file) + 1 + 16 + 2);
	put64(code);
	put64(2);
	put64(code);
	put32(first);
	put32(0);
	put(file, strlen(file) + 1);
	put64(code + offset);
	put32(second);
	put32(0);
	put("\xff", 2);
}

static function load(const char *name, const void *code, size_t n)
{
	static uint64_t index;
	memcpy(next, code, n);
	record(0, 40 + strlen(name) + 1 + n);
	put32(getpid());
	put32(getpid());
	put64((uint64_t)next);
	put64((uint64_t)next);
	put64(n);
	put64(index++);
	put(name, strlen(name) + 1);
	put(next, n);
	function made = (function)next;
	next += (n + 63) & ~63ull;
	return made;
}

// spin counts its argument down; the loop begins at an offset.
static function make_spin(void)
{
#ifdef __x86_64__
	const uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3};
	lines((uint64_t)next, "/src/spin.x", 10, 4, 11);
#else
	const uint32_t code[] = {0xa9bf7bfd, 0x910003fd, 0xf1000400, 0x54ffffe1, 0xa8c17bfd, 0xd65f03c0};
	lines((uint64_t)next, "/src/spin.x", 10, 8, 11);
#endif
	return load("spin", code, sizeof(code));
}

// A caller calls another function with its own argument.
static function make_caller(const char *name, function callee)
{
#ifdef __x86_64__
	uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x5d, 0xc3};
	int32_t way = (uint8_t *)callee - (next + 9);
	memcpy(code + 5, &way, 4);
#else
	uint32_t code[] = {0xa9bf7bfd, 0x910003fd, 0x94000000, 0xa8c17bfd, 0xd65f03c0};
	code[2] |= (((uint8_t *)callee - (next + 8)) / 4) & 0x3ffffff;
#endif
	return load(name, code, sizeof(code));
}

int main(int argc, char **argv)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/jit-%d.dump", argc > 1 ? argv[1] : ".", getpid());
	dump = fopen(path, "w+");
	memory = next = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!dump || memory == MAP_FAILED)
		return 1;
	put32(0x4a695444);
	put32(1);
	put32(40);
	put32(62);
	put32(0);
	put32(getpid());
	put64(clock_of(CLOCK_MONOTONIC));
	put64(0);
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(dump), 0) == MAP_FAILED)
		return 1;
	function spin = make_spin();
	const char *names[] = {"alpha", "beta", "void gamma(int)"};
	const uint64_t parts[] = {6000000, 3000000, 1000000};
	uint64_t used[3] = {0};
	function functions[3];
	for (int i = 0; i < 3; i++)
		functions[i] = make_caller(names[i], spin);
	fflush(dump);
	__builtin___clear_cache((char *)memory, (char *)next);
	unlink(path);
	puts("ready");
	fflush(stdout);
	getchar();
	for (uint64_t end = clock_of(CLOCK_MONOTONIC) + 4000000000ull; clock_of(CLOCK_MONOTONIC) < end;)
		for (int i = 0; i < 3; i++) {
			uint64_t begin = clock_of(CLOCK_PROCESS_CPUTIME_ID);
			functions[i](parts[i]);
			used[i] += clock_of(CLOCK_PROCESS_CPUTIME_ID) - begin;
		}
	printf("{\"%s\":%lu,\"%s\":%lu,\"%s\":%lu}\n", names[0], used[0] / 1000, names[1], used[1] / 1000, names[2], used[2] / 1000);
	return 0;
}
