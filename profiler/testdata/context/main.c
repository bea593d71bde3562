// SPDX-License-Identifier: Apache-2.0
/*
 * Publishes OpenTelemetry thread contexts (OTEP 4947) around its work, on two threads.
 * Of each stretch it says on standard output on which thread and when it was, and what
 * the attributes were. When it reads a line it names its attributes anew, in another order
 * and with one more. It ends with its standard input. `main [LIBRARY]`: the library has the variable, and is loaded when
 * the program runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef LOAD
static void (*attach)(void *record);
#else
void attach(void *record);
#endif

struct record {
	uint8_t trace[16], span[8], valid, flags;
	uint16_t bytes;
	uint8_t attributes[640];
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Appends a protobuf field with a length of less than 128 bytes. */
static size_t field(uint8_t *to, int number, const void *data, size_t bytes)
{
	to[0] = number << 3 | 2;
	to[1] = bytes;
	memcpy(to + 2, data, bytes);
	return bytes + 2;
}

/* Appends an attribute of the process context; value is an AnyValue. */
static size_t attribute(uint8_t *to, const char *key, const uint8_t *value, size_t bytes)
{
	uint8_t pair[128];
	size_t n = field(pair, 1, key, strlen(key));

	n += field(pair + n, 2, value, bytes);
	return field(to, 2, pair, n);
}

static struct header {
	char signature[8];
	uint32_t version, bytes;
	uint64_t published;
	uint8_t *payload;
} *context;

/* Publishes the process context. */
static void publish(const char *const keys[], int count)
{
	uint8_t *payload = malloc(512), values[128], value[128], text[64];
	size_t n = 0, all = 0;

	for (int i = 0; i < count; i++) {
		size_t t = field(text, 1, keys[i], strlen(keys[i]));

		n += field(values + n, 1, text, t);
	}
	n = field(value, 5, values, n);
	all += attribute(payload + all, "threadlocal.attribute_key_map", value, n);
	n = field(value, 1, "tlsdesc_v1_dev", 14);
	all += attribute(payload + all, "threadlocal.schema_version", value, n);
	if (!context) {
		int fd = memfd_create("OTEL_CTX", MFD_CLOEXEC);

		if (fd < 0 || ftruncate(fd, 4096))
			exit(2);
		context = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		close(fd);
	}
	context->published = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	context->version = 2;
	context->bytes = all;
	context->payload = payload;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(context->signature, "OTEL_CTX", 8);
	context->published = now();
}

static const char *const keys[] = { "http.route", "http.request.method", "user.id" };
static const char *const keys_later[] = { "late", "http.route", "http.request.method", "user.id" };
static int first; /* number of http.route */
static pthread_mutex_t publishing[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
static volatile int renaming, ending;

/* Names the attributes anew while no thread publishes any. */
static void rename_keys(void)
{
	renaming = 1;
	for (int i = 0; i < 2; i++)
		pthread_mutex_lock(&publishing[i]);
	printf("{\"Begin\":%llu,\"Name\":\"renamed\"}\n", (unsigned long long)now());
	publish(keys_later, 4);
	first = 1;
	renaming = 0;
	for (int i = 0; i < 2; i++)
		pthread_mutex_unlock(&publishing[i]);
}

static void put(struct record *r, int key, const char *value)
{
	r->attributes[r->bytes] = (first + key) % 4;
	r->attributes[r->bytes + 1] = strlen(value);
	memcpy(r->attributes + r->bytes + 2, value, strlen(value));
	r->bytes += strlen(value) + 2;
}

/* Works for 30 ms, and says what was published meanwhile. */
static void work(const char *name, const char *labels)
{
	uint64_t begin = now(), x = 1;

	while (now() < begin + 30000000)
		for (int i = 0; i < 100000; i++)
			x = x * 6364136223846793005ULL + 1;
	flockfile(stdout);
	printf("{\"TID\":%ld,\"Begin\":%llu,\"End\":%llu,\"Name\":\"%s\",\"Labels\":{%s}}\n", syscall(SYS_gettid),
	       (unsigned long long)begin, (unsigned long long)now(), x ? name : "", labels);
	funlockfile(stdout);
}

static void *serve(void *number)
{
	struct record r = { .trace = "0123456789abcdef", .span = "01234567" };
	char labels[200], route[50];
	pthread_mutex_t *mine = &publishing[(intptr_t)number];

	pthread_mutex_lock(mine);
	for (int i = 0; !ending; i++) {
		pthread_mutex_unlock(mine);
		while (renaming)
			usleep(1000);
		pthread_mutex_lock(mine);
		work("none", "");
		r.valid = 1;
		r.bytes = 0;
		snprintf(route, sizeof(route), "/thread/%d/%d", (int)(intptr_t)number, i);
		put(&r, 0, route);
		put(&r, 1, "GET");
		snprintf(labels, sizeof(labels), "\"http.route\":\"%s\",\"http.request.method\":\"GET\"", route);
		attach(&r);
		work("two", labels);
		r.valid = 0;
		work("invalid", "");
		put(&r, 2, "jane");
		put(&r, 1, "PUT"); /* the last one counts */
		snprintf(labels, sizeof(labels), "\"http.route\":\"%s\",\"http.request.method\":\"PUT\",\"user.id\":\"jane\"", route);
		r.valid = 1;
		work("three", labels);
		attach(NULL);
		work("detached", "");
		r.bytes = 0;
		put(&r, 3, "known");
		attach(&r);
		work("late", "\"late\":\"known\"");
		r.attributes[r.bytes] = 0;
		r.attributes[r.bytes + 1] = 200;
		r.bytes += 10; /* a value that is cut */
		work("cut", "\"late\":\"known\"");
		r.bytes = 640;
		work("too long", "");
		r.bytes = 0;
		work("empty", "");
		attach(NULL);
	}
	pthread_mutex_unlock(mine);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	alarm(120);
#ifdef LOAD
	void *library = dlopen(argv[1], RTLD_NOW);

	if (library)
		attach = (void (*)(void *))dlsym(library, "attach");
	if (!attach)
		return fprintf(stderr, "%s\n", dlerror()), 1;
#else
	(void)argv;
#endif
	if (argc > 2)
		return 1;
	publish(keys, 3);
	for (intptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, serve, (void *)i);
	if (getchar() != EOF)
		rename_keys();
	while (getchar() != EOF)
		;
	ending = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
