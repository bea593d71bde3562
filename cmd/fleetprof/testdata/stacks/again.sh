# SPDX-License-Identifier: Apache-2.0
# again.sh COMMAND…: processes that live for some milliseconds.
while :; do
	"$@"
done
