// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Runs the kernel side's walk, bpf/walk.h, in user space: over unwind tables,
 * mappings and memory that stdin gives it. Numbers are little-endian.
 *
 * Stdin is a sequence of commands, each a struct command and its operands:
 *
 *	COMMAND_WORDS     count words of unwind tables, from number at on
 *	COMMAND_SEGMENTS  count struct segment, from number at on
 *	COMMAND_MAPPINGS  count struct mapping, from place at on
 *	COMMAND_MEMORY    count struct page: all memory there is from now on
 *	COMMAND_WALK      a struct start; a struct result and its frames go to stdout
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <linux/types.h>

/* What walk.h takes from libbpf. */
#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) value *name
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

static void *bpf_map_lookup_elem(const void *map, const __u32 *key);
static long bpf_probe_read_user(void *to, __u32 bytes, const void *from);

#include "../../../bpf/walk.h"

#define BLOCKS 4
#define PAGES 256
#define PAGE_BYTES 4096

enum command_kind {
	COMMAND_WORDS = 1,
	COMMAND_SEGMENTS = 2,
	COMMAND_MAPPINGS = 3,
	COMMAND_MEMORY = 4,
	COMMAND_WALK = 5,
};

struct command {
	__u32 kind, count;
	__u64 at;
};

struct page {
	__u64 address; /* a multiple of PAGE_BYTES; pages ascend */
	__u8 bytes[PAGE_BYTES];
};

struct start {
	__u64 ip;
	__u64 r[REGISTERS];
	/* The reads that fail although the memory is there, counted from 0. */
	__u64 fail_from, fail_until;
	__u32 first, count; /* of the process's mappings */
	__u32 may_hand_over, reserved;
};

struct result {
	__u32 frames, reads;
	__u32 stop, late, missed, reserved;
};

/* One piece of memory each, so that the address sanitizer knows their ends. */
static struct block *block_memory[BLOCKS];
static struct list *list_memory[LISTS];
static struct segment *segment_memory;
static struct page *pages;
static __u32 page_count;
static struct start start;
static __u64 reads;

static void *bpf_map_lookup_elem(const void *map, const __u32 *key)
{
	if (map == &blocks)
		return *key < BLOCKS ? block_memory[*key] : NULL;
	if (map == &segments)
		return *key < SEGMENTS ? &segment_memory[*key] : NULL;
	if (map == &lists)
		return *key < LISTS ? list_memory[*key] : NULL;
	abort();
}

static const struct page *find_page(__u64 address)
{
	__u32 low = 0, high = page_count;

	while (low < high) {
		__u32 middle = (low + high) / 2;

		if (pages[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || address - pages[low - 1].address >= PAGE_BYTES)
		return NULL;
	return &pages[low - 1];
}

/* After an error the kernel's own leaves zeroes behind; the walk is to depend
 * on neither these nor what was there before. */
static long bpf_probe_read_user(void *to, __u32 bytes, const void *from)
{
	__u64 address = (__u64)from, number = reads++;

	memset(to, 0xa5, bytes);
	if (number >= start.fail_from && number < start.fail_until)
		return -1;
	for (__u32 done = 0; done < bytes;) {
		const struct page *page = find_page(address + done);
		__u64 offset, piece;

		if (!page || address + bytes < address) {
			memset(to, 0xa5, bytes);
			return -1;
		}
		offset = address + done - page->address;
		piece = PAGE_BYTES - offset < bytes - done ? PAGE_BYTES - offset : bytes - done;
		memcpy((char *)to + done, page->bytes + offset, piece);
		done += piece;
	}
	return 0;
}

static void get(void *to, size_t bytes)
{
	if (fread(to, 1, bytes, stdin) != bytes) {
		fputs("command is cut short\n", stderr);
		exit(1);
	}
}

static void put(const void *from, size_t bytes)
{
	if (fwrite(from, 1, bytes, stdout) != bytes) {
		perror("write result");
		exit(1);
	}
}

/* Makes a record of each frame as next_frame() of sampler.bpf.c does. */
static void run(void)
{
	static __u64 frames[MAX_USER_FRAMES];
	struct walk *w = malloc(sizeof(*w));
	struct registers registers = { .ip = start.ip };
	struct result result;

	if (!w)
		abort();
	memset(w, 0xa5, sizeof(*w));
	memcpy(registers.r, start.r, sizeof(registers.r));
	reads = 0;
	walk_from(w, &registers);
	w->hash = 0;
	w->may_hand_over = start.may_hand_over;
	w->first = start.first;
	w->count = start.count;
	for (int i = 0; i < MAX_USER_FRAMES; i++) {
		frames[w->frames] = w->ip + (w->exact && w->frames > 0);
		w->frames++;
		if (walk_step(w, &registers) != STEP_MORE)
			break;
	}
	result = (struct result){ w->frames, reads, w->stop, w->late, w->missed, 0 };
	put(&result, sizeof(result));
	put(frames, w->frames * sizeof(*frames));
	fflush(stdout);
	free(w);
}

static void get_words(__u64 at, __u32 count)
{
	for (; count > 0 && at / BLOCK_WORDS < BLOCKS; at++, count--)
		get(&block_memory[at / BLOCK_WORDS]->words[at % BLOCK_WORDS], sizeof(__u32));
}

static void get_mappings(__u64 at, __u32 count)
{
	for (; count > 0 && at / LIST_LENGTH < LISTS; at++, count--)
		get(&list_memory[at / LIST_LENGTH]->mappings[at % LIST_LENGTH], sizeof(struct mapping));
}

static void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		abort();
	return memory;
}

int main(void)
{
	struct command c;

	for (int i = 0; i < BLOCKS; i++)
		block_memory[i] = allocate(sizeof(struct block));
	for (int i = 0; i < LISTS; i++)
		list_memory[i] = allocate(sizeof(struct list));
	segment_memory = allocate(SEGMENTS * sizeof(*segment_memory));
	pages = allocate(PAGES * sizeof(*pages));
	while (fread(&c, sizeof(c), 1, stdin) == 1) {
		if (c.kind == COMMAND_WORDS) {
			get_words(c.at, c.count);
		} else if (c.kind == COMMAND_SEGMENTS && c.at + c.count <= SEGMENTS) {
			get(&segment_memory[c.at], c.count * sizeof(*segment_memory));
		} else if (c.kind == COMMAND_MAPPINGS) {
			get_mappings(c.at, c.count);
		} else if (c.kind == COMMAND_MEMORY && c.count <= PAGES) {
			page_count = c.count;
			get(pages, page_count * sizeof(*pages));
		} else if (c.kind == COMMAND_WALK) {
			get(&start, sizeof(start));
			run();
		} else {
			fputs("command is not known\n", stderr);
			return 1;
		}
	}
	return 0;
}
