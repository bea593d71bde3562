// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// Shares of whole stacks asked for, also of a machine that is busy with other
// things. What a quiet one gives is in docs/performance.md.
const (
	every      = 0.98
	longLived  = 0.97
	shortLived = 0.93
	starting   = 0.90 // of programs that do nothing but start others
)

func subjectGroups() []subjectGroup {
	return []subjectGroup{
		{"recursion", []subject{
			recursion("depth5", "gcc", "5", longLived),
			recursion("depth60", "gcc", "60", longLived),
			recursion("depth300", "gcc", "300", longLived),
			recursion("depth1000", "gcc", "1000", every),
			recursion("threads", "gcc", "60 2", longLived),
			recursion("static-glibc", "gcc -static", "60", longLived),
			recursion("static-musl", "musl-gcc -static", "60", longLived),
			recursion("dynamic-musl", "musl-gcc", "60", longLived),
			recursion("threads-musl", "musl-gcc -static", "60 2", longLived),
		}},
		{"native", []subject{
			compiled("realign", "gcc", "realign.c"),
			compiled("vdso", "gcc", "vdso.c"),
			compiled("signal", "gcc", "signal.c"),
			compiled("qsort", "gcc", "qsort.c"),
			expecting(shortLived, compiled("exceptions", "g++", "exceptions.cc")),
			compiled("virtual", "g++", "virtual.cc"),
			withLibrary("plt", "plt.c $DIR/plt.so", "$DIR/plt"),
			withLibrary("dlopen", "dlopen.c", "$DIR/dlopen $DIR/dlopen.so"),
			{
				name: "rust", complete: longLived, optional: "rustc", run: "$DIR/rust",
				build: "rustc -C opt-level=3 -C force-frame-pointers=no -o $DIR/rust rust.rs",
			},
		}},
		{"go", []subject{
			golang("go-deep5", "./gostacks", "deep5", longLived),
			golang("go-deep1000", "./gostacks", "deep1000", longLived),
			golang("go-goroutines", "./gostacks", "goroutines", longLived),
			golang("go-system", "./gostacks", "system", longLived),
			golang("go-panics", "./gostacks", "panics", longLived),
			golang("go-stripped", "-ldflags='-s -w' ./gostacks", "system", longLived),
			golang("go-pie", "-buildmode=pie ./gostacks", "panics", longLived),
			golang("go-cgo", "./cgostacks", "", longLived),
		}},
		{"installed", []subject{
			{name: "openssl-sha256", complete: longLived, silent: true, perf: true, run: "openssl speed -seconds 10 sha256"},
			{name: "openssl-rsa", complete: longLived, silent: true, perf: true, run: "openssl speed -seconds 30 rsa2048"},
			{name: "python3", complete: longLived, perf: true, run: "python3 calls.py"},
			{name: "node-compiled", complete: longLived, run: "node --no-turbo-inlining calls.js"},
			{name: "node-jitless", complete: longLived, run: "node --jitless calls.js"},
		}},
		{"brief", []subject{
			expecting(starting, compiled("fork", "gcc", "fork.c")),
			brief("ls", "cp /bin/ls $DIR/ls", "-l /", true),
			brief("depth60-brief", "gcc "+optimized+" -o $DIR/depth60-brief recursion.c", "60 0 100", false),
		}},
		{"go-build", []subject{{
			name: "go-build", complete: shortLived, silent: true,
			run: "sh gobuild.sh $DIR", children: []string{"go", "compile", "asm", "link", "cgo"},
		}}},
	}
}

// optimized is how everything of C and C++ is compiled.
const optimized = "-O2 -fomit-frame-pointer -pthread"

// recursion is recursion.c; arguments are its depth, and perhaps a number of
// threads.
func recursion(name, compiler, arguments string, complete float64) subject {
	return subject{
		name: name, complete: complete, run: "$DIR/" + name + " " + arguments,
		build: fmt.Sprintf("%s %s -o $DIR/%s recursion.c", compiler, optimized, name),
	}
}

// compiled is a program of C or C++ in one file.
func compiled(name, compiler, source string) subject {
	return subject{
		name: name, complete: longLived, run: "$DIR/" + name,
		build: fmt.Sprintf("%s %s -o $DIR/%s %s", compiler, optimized, name, source),
	}
}

// expecting lowers what is expected of a program that spends much of its time where unwind
// information is wrong or missing, see docs/unwinding.md.
func expecting(complete float64, s subject) subject {
	s.complete = complete
	return s
}

// brief is a program that a shell starts again and again.
func brief(name, build, arguments string, silent bool) subject {
	return subject{
		name: name, complete: shortLived, silent: silent, children: []string{name + "-shell"},
		build: build + "; cp /bin/dash $DIR/" + name + "-shell",
		run:   fmt.Sprintf("$DIR/%[1]s-shell again.sh $DIR/%[1]s %[2]s", name, arguments),
	}
}

// withLibrary is a program of C, and library.c as a shared library, whose
// symbols are bound when they are first called.
func withLibrary(name, sources, run string) subject {
	const build = `gcc %[1]s -fPIC -shared -Wl,-z,lazy -o $DIR/%[2]s.so library.c
		gcc %[1]s -Wl,-z,lazy -o $DIR/%[2]s %[3]s`
	return subject{
		name: name, complete: longLived, run: run,
		build: fmt.Sprintf(build, optimized, name, sources),
	}
}

// golang is a Go program.
func golang(name, build, arguments string, complete float64) subject {
	return subject{
		name: name, complete: complete, run: "$DIR/" + name + " " + arguments,
		build: fmt.Sprintf("go build -o $DIR/%s %s", name, build),
	}
}
