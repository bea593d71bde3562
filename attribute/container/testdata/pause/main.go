// SPDX-License-Identifier: Apache-2.0

// Command pause does nothing until it is killed: the only program in a test's
// container.
package main

import "time"

func main() {
	for {
		time.Sleep(time.Hour)
	}
}
