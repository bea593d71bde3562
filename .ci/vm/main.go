// SPDX-License-Identifier: Apache-2.0

// Command vm runs the tests of packages on other kernels, each in an emulated
// machine whose whole file system is one Go program and the test binaries. It
// is started at the top of the repository; docs/kernels.md says more.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// machines run at a time; each keeps one CPU of this host busy.
const machines = 2

func main() {
	names := flag.String("kernels", "", "the kernels to test, such as '5.10-amd64 6.1-arm64'; all if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	ok, err := testAll(ctx, *names, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "test on other kernels:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// testAll tests packages on kernels and prints what became of it. A kernel that
// cannot be had is a failure among others, and no reason not to try the rest.
func testAll(ctx context.Context, names string, packages []string) (ok bool, err error) {
	chosen, err := choose(names)
	if err != nil {
		return false, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return false, err
	}
	work, err := os.MkdirTemp("", "fleetprof-vm-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(work)

	from := store{filepath.Join(cache, "fleetprof", "kernels")}
	initramfs := make(map[string]string) // by architecture
	for _, k := range chosen {
		if initramfs[k.arch] != "" {
			continue
		}
		if initramfs[k.arch], err = buildInitramfs(from, filepath.Join(work, k.arch), k.arch, packages); err != nil {
			return false, err
		}
	}
	verdicts := bootAll(ctx, chosen, from, initramfs)
	return printTable(os.Stdout, verdicts, packages), nil
}

// bootAll boots kernels, some at a time, and prints what each told when it ends.
func bootAll(ctx context.Context, chosen []kernel, from store, initramfs map[string]string) []verdict {
	verdicts := make([]verdict, len(chosen))
	var printing sync.Mutex
	finish := func(i int, s session, err error) {
		v := judge(chosen[i], s, err)
		printing.Lock()
		defer printing.Unlock()
		v.print(os.Stdout)
		verdicts[i] = v
	}
	var boots errgroup.Group
	boots.SetLimit(machines)
	for i, k := range chosen {
		vmlinuz, err := from.vmlinuz(k)
		if err != nil {
			finish(i, session{}, err)
			continue
		}
		boots.Go(func() error {
			console, err := boot(ctx, k.arch, vmlinuz, initramfs[k.arch])
			finish(i, readConsole(console), err)
			return nil
		})
	}
	_ = boots.Wait() // nothing returns an error
	return verdicts
}
