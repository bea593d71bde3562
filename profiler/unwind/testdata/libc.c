/* SPDX-License-Identifier: Apache-2.0 */
/* Uses much of a C library, for the tests of stack walks. */
#include <fnmatch.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <regex.h>
#include <search.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

static jmp_buf jump;

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void on_signal(int number) { (void)number; }

static void at_exit(void) { puts("end"); }

static void *thread(void *p) { return p; }

static void numbers(char *text, size_t size)
{
	snprintf(text, size, "%d %s %.17g %La %*d %lc %p", 42, "forty-two", 4.2e-300, 1.5L, 12, 7, (wint_t)L'x', text);
	double d = strtod("1.7976931348623157e308", 0) + atof("0x1.8p3") + strtol("-123", 0, 0);
	int i;
	char word[32];
	sscanf("12 word 3.5", "%d %31s %lf", &i, word, &d);
	snprintf(text, size, "%f %s", sin(d) + pow(1.5, i) + exp(0.5) + log(3), word);
}

static void patterns(void)
{
	regex_t r;
	regmatch_t m[3];
	regcomp(&r, "^([a-z]+)[0-9]*(x|yz)?$", REG_EXTENDED);
	regexec(&r, "word123yz", 3, m, 0);
	regexec(&r, "word-", 3, m, 0);
	regfree(&r);
	fnmatch("*.[ch]", "main.c", 0);
}

static void memory(void)
{
	char *blocks[40];
	for (int i = 0; i < 40; i++)
		blocks[i] = malloc((size_t)i * i * 37 + 1);
	for (int i = 0; i < 40; i += 2)
		blocks[i] = realloc(blocks[i], 5000);
	for (int i = 0; i < 40; i++)
		free(blocks[i]);
	free(strdup("some text"));
	free(calloc(3, 70000));
}

static void searches(void)
{
	char *words[] = {"nine", "three", "seven", "one", "five", "two", "eight", "four", "six"}, *key = "four";
	qsort(words, 9, sizeof(*words), compare);
	bsearch(&key, words, 9, sizeof(*words), compare);
	void *root = 0;
	for (int i = 0; i < 9; i++)
		tsearch(&words[i], &root, compare);
	tdelete(&words[3], &root, compare);
	char list[] = "a,b;c";
	for (char *t = strtok(list, ",;"); t; t = strtok(0, ",;"))
		strstr("a long line with some needles", t);
}

static void times(void)
{
	time_t now = 1700000000;
	char text[64];
	struct tm tm;
	strftime(text, sizeof(text), "%a %d %b %Y %H:%M:%S %Z", localtime_r(&now, &tm));
	mktime(&tm);
}

static void files(void)
{
	char line[100];
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof(line), f))
		;
	fclose(f);
	f = fopen("/dev/null", "w");
	fprintf(f, "%s %ls\n", line, L"wide");
	fputs("text", f);
	fclose(f);
}

int main(void)
{
	char text[200];
	atexit(at_exit);
	setlocale(LC_ALL, "C.UTF-8");
	numbers(text, sizeof(text));
	patterns();
	memory();
	searches();
	times();
	files();
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	if (setjmp(jump) == 0)
		longjmp(jump, 1);
	pthread_t t;
	if (pthread_create(&t, 0, thread, text) == 0)
		pthread_join(t, 0);
	puts(text);
	return 0;
}
