// SPDX-License-Identifier: Apache-2.0

package container

// Path gives the path of a cgroup from the root of its hierarchy, "" if it cannot be
// told. It asks the kernel each time: who needs it does so once for a process.
func (r *Resolver) Path(cgroupID uint64, pid uint32) string {
	path, err := pathOf(r.fs, r.hierarchy, cgroupID)
	if err != nil {
		path, err = pathOfProcess(r.fs, r.hierarchy, cgroupID, pid)
	}
	if err != nil {
		return ""
	}
	return path
}
