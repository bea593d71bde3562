/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pprof labels of a goroutine, read from the program's memory:
 * profiler/goruntime/FORMAT.md has what they look like.
 */
#ifndef FLEETPROF_LABELS_H
#define FLEETPROF_LABELS_H

#include "request.h"

/* A map of Go before 1.24, runtime.hmap, and its buckets of 8 strings to 8 strings. */
enum go_map {
	GO_MAP_BITS = 9, /* offset of the logarithm of the number of buckets */
	GO_MAP_BUCKETS = 16,
	GO_BUCKET_KEYS = 8,
	GO_BUCKET_VALUES = GO_BUCKET_KEYS + 8 * sizeof(struct go_string),
	GO_BUCKET_SIZE = 8, /* strings of each kind */
};

/* Where labels lie: the first key and the first value, and how far the next are. */
struct label_list {
	__u64 key;
	__u64 value;
	__u64 stride;
	__u64 count;
};

/* Finds the labels of a slice. */
static __always_inline void find_slice(__u64 slice, struct label_list *list)
{
	list->key = user_word(slice);
	list->value = list->key + sizeof(struct go_string);
	list->stride = 2 * sizeof(struct go_string);
	list->count = user_word(slice + 8);
}

/* Finds the labels of a map, if it has one bucket: nothing is ever deleted from
 * it, so that is filled from the beginning. */
static __always_inline void find_bucket(__u64 map, struct label_list *list)
{
	__u64 bucket = user_word(map + GO_MAP_BUCKETS);
	__u8 bits = 1;

	bpf_probe_read_user(&bits, sizeof(bits), (void *)(map + GO_MAP_BITS));
	list->key = bits || !bucket ? 0 : bucket + GO_BUCKET_KEYS;
	list->value = bucket + GO_BUCKET_VALUES;
	list->stride = sizeof(struct go_string);
	list->count = user_word(map);
}

/* Reads a set of labels. Returns false if there may be more. */
static __always_inline bool read_labels(const struct layout *l, __u64 set, struct labels *to)
{
	__u64 most = l->label_list < 0 ? GO_BUCKET_SIZE : LABELS;
	struct label_list list;

	to->count = 0;
	if (l->label_list < 0)
		find_bucket(user_word(set), &list);
	else
		find_slice(set + l->label_list, &list);
	if (list.count == 0)
		return true;
	if (list.key == 0)
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < LABELS; i++) {
		struct label *label = &to->label[i];

		if (i >= list.count || i >= most)
			break;
		label->key_length = copy_string(label->key, KEY_BYTES, list.key, 0);
		label->value_length = copy_string(label->value, VALUE_BYTES, list.value, 0);
		list.key += list.stride;
		list.value += list.stride;
		to->count = i + 1;
	}
	return list.count <= most;
}

#endif
