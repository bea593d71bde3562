# SPDX-License-Identifier: Apache-2.0
# gobuild.sh DIR: compiles a program and all it imports, again and again.
cd gostacks
while :; do
	GOCACHE=$(mktemp -d -p "$1") go build -o "$1/built" .
done
