// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"strconv"
	"strings"
)

// ReadCPUList reads a file that holds one CPU list, such as
// /sys/devices/system/cpu/online.
func ReadCPUList(path string) ([]int, error) {
	var buf [32 << 10]byte
	text, err := readShort(path, buf[:])
	if err != nil {
		return nil, fmt.Errorf("read CPU list %s: %w", path, err)
	}
	return ParseCPUList(strings.TrimSuffix(string(text), "\n"))
}

// ParseCPUList reads numbers and ranges in ascending order, like "0-3,5", the
// list format of cpuset(7). An empty list has no CPU. Numbers end at 65,535;
// Linux can be built for at most 8,192 CPUs (CONFIG_NR_CPUS).
func ParseCPUList(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var cpus []int
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		next := 0
		if len(cpus) > 0 {
			next = cpus[len(cpus)-1] + 1
		}
		if err1 != nil || err2 != nil || to < from || int(from) < next {
			return nil, fmt.Errorf("parse CPU list: bad item %.40q", item)
		}
		for cpu := int(from); cpu <= int(to); cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
