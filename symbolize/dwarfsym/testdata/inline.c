// SPDX-License-Identifier: Apache-2.0
// Functions that are inlined in one another, loops that are taken apart, and cold parts.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
	struct node *left, *right;
	unsigned key;
	double weight;
};

static inline unsigned mix(unsigned h)
{
	h ^= h >> 16;
	h *= 0x85ebca6b;
	return h ^ h >> 13;
}

static inline unsigned hash(const char *s)
{
	unsigned h = 0;

	while (*s)
		h = mix(h + (unsigned char)*s++);
	return h;
}

static __attribute__((noinline)) struct node *insert(struct node *n, unsigned key)
{
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n) {
			perror("calloc");
			exit(1);
		}
		n->key = key;
		n->weight = sqrt(key);
		return n;
	}
	if (key < n->key)
		n->left = insert(n->left, key);
	else if (key > n->key)
		n->right = insert(n->right, key);
	return n;
}

static double sum(const struct node *n) { return n ? n->weight + sum(n->left) + sum(n->right) : 0; }

static void multiply(double *restrict c, const double *a, const double *b, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			double total = 0;

			for (int k = 0; k < n; k++)
				total += a[i * n + k] * b[k * n + j];
			c[i * n + j] = total;
		}
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct node *root = NULL;
	double a[64], b[64], c[64];
	char text[256];

	for (int i = 0; i < argc; i++) {
		snprintf(text, sizeof(text), "%s-%d", argv[i], i);
		root = insert(root, hash(text));
	}
	for (int i = 0; i < 64; i++) {
		a[i] = mix(i);
		b[i] = argc * i;
	}
	multiply(c, a, b, 8);
	qsort(c, 64, sizeof(*c), compare);
	switch (argc) {
	case 1: puts("one"); break;
	case 2: puts("two"); break;
	case 3: memset(a, 0, sizeof(a)); break;
	case 4: memmove(a, b, sizeof(a)); break;
	case 5: abort();
	}
	printf("%f %f %f\n", sum(root), c[0], a[63]);
	return 0;
}
