// SPDX-License-Identifier: Apache-2.0
// dlopen LIBRARY: opens a library, has its symbols bound as they are called,
// runs in it and closes it, again and again, so that its addresses come and go.
#include "burn.h"
#include <dlfcn.h>

typedef long function(long);

static NOIPA int open_and_run(const char *path)
{
	void *library = dlopen(path, RTLD_LAZY);
	function *outer = library ? (function *)dlsym(library, "lib_outer") : NULL;
	if (!outer)
		return 0;
	for (int i = 0; i < 20000; i++)
		sink += outer(i);
	return !dlclose(library);
}

int main(int argc, char **argv)
{
	puts("main;open_and_run;lib_outer;lib_inner;lib_leaf");
	puts("main;open_and_run;lib_outer;lib_leaf");
	ready();
	while (argc == 2 && open_and_run(argv[1]))
		;
	return 1;
}
