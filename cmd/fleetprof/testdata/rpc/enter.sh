#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Executes a command in cgroups: enter.sh DIRECTORY:DIRECTORY COMMAND...
set -eu
IFS=:
for directory in $1; do
	echo $$ >"$directory/cgroup.procs"
done
shift
exec "$@"
