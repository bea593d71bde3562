// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// machineLimit ends a machine that hangs.
const machineLimit = 30 * time.Minute

// boot runs a machine to its end and returns what its console told, and what the
// emulator had to complain of.
//
// The processor is emulated, so that every architecture runs on every host, and
// the machine's clock counts instructions (-icount): time stands still while it
// waits for its turn on a busy host, and tests that compare times give the
// answer they would give on an idle one. There is one CPU: with two, amd64
// kernels do not come up under -icount, and timers fire late.
func boot(ctx context.Context, arch, vmlinuz, initramfs string) (console string, err error) {
	tty := "ttyS0"
	// Without cmpxchg16b, after which QEMU 7.2 now and then has an address in
	// EFLAGS: the kernel's next interrupt return is then a double fault.
	program, args := "qemu-system-x86_64", []string{"-M", "pc", "-cpu", "qemu64,-cx16"}
	if arch == "arm64" {
		tty = "ttyAMA0"
		program, args = "qemu-system-aarch64", []string{"-M", "virt", "-cpu", "cortex-a72"}
	}
	args = append(args, "-accel", "tcg", "-icount", "shift=3,sleep=off", "-smp", "1", "-m", "1024",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", vmlinuz, "-initrd", initramfs,
		// Nothing but the kernel's last words may come between the tests' output.
		"-append", "console="+tty+" loglevel=1 panic=-1")

	ctx, cancel := context.WithTimeout(ctx, machineLimit)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("did not end within %v", machineLimit)
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w", program, err)
	}
	return string(text), err
}
