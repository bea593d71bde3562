// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side of fleetprof: the C programs, the treaty
// header they share with Go (events.h), the committed objects for amd64 and
// arm64, and what it takes to load them. It knows how, not what for: which
// processes to sample, and what a record means, is decided elsewhere.
//
// Nothing here stays in the kernel once the process ends: programs and maps
// live as long as a file descriptor refers to them.
package bpf

//go:generate go tool bpf2go -go-package bpf -target amd64,arm64 -cc clang-16 -strip llvm-strip-16 -cflags "-O2 -g -Wall -Werror -mcpu=v3" -output-stem sampler sampler sampler.bpf.c -- -isystem /usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target amd64,arm64 -cc clang-16 -strip llvm-strip-16 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -DTAIL_CALLS" -no-global-types -output-stem chain chain sampler.bpf.c -- -isystem /usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target amd64,arm64 -cc clang-16 -strip llvm-strip-16 -cflags "-O2 -g -Wall -Werror -mcpu=v3" -output-stem rpc rpc rpc.bpf.c -- -isystem /usr/include/x86_64-linux-gnu
