// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"os"
)

// Unsupported says what this host cannot do, why, and the way out.
type Unsupported struct {
	Feature string // what was tried, such as "loading BPF programs"
	Remedy  string // what an operator can do
	Err     error  // what the kernel said
}

func (u *Unsupported) Error() string {
	return fmt.Sprintf("%s is not possible here (%v): %s", u.Feature, u.Err, u.Remedy)
}

func (u *Unsupported) Unwrap() error { return u.Err }

// btfPath is where a kernel shows its own types, see
// Documentation/bpf/btf.rst.
const btfPath = "/sys/kernel/btf/vmlinux"

// CheckBTF reports, as an *Unsupported, a kernel without type information.
func CheckBTF() error {
	if _, err := os.Stat(btfPath); err != nil {
		return &Unsupported{
			"reading kernel types",
			"the sampler needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions ship since Linux 5.10",
			err,
		}
	}
	return nil
}
