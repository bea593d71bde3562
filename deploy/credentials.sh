#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: credentials.sh DIR NAME…
#
# Makes in DIR what a fleet needs for a server that is reached by the names (or
# addresses), with openssl:
#
#   ca.pem ca.key           an authority of your own; keep ca.key elsewhere
#   server.pem server.key   --tls-cert and --tls-key of the server, for a year
#   agent.token             bearer_token_file of the agents
#   agent.pem agent.key     instead of the token, cert_file and key_file of the agents,
#                           for a year, with --tls-client-ca=ca.pem at the server
#   admin.token             for people, and Prometheus at the server: the password of
#                           the name admin
#   metrics.token           for Prometheus at the agents, of the name metrics: one that is
#                           good for nothing else, as agents are asked without TLS
#   users.yaml              --auth-file of the server: who the others are
#   agent-users.yaml        --auth-file of the agents: metrics may read theirs
#
# Said again, it makes new certificates and keeps the rest, files of users above all.
# For another token, remove the old one and say it again: it tells what to add to them.
set -euo pipefail
umask 077

if [[ $# -lt 2 ]]; then
	sed -n '3,22s/^# \?//p' "$0" >&2
	exit 2
fi
mkdir -p "$1"
cd "$1"
shift

# quietly says nothing unless it fails.
quietly() { local said; said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }; }
curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

# What is begun is called new.…, so that nothing is left half made under its own name.
trap 'rm -f new.*' EXIT

if [[ ! -e ca.pem ]]; then
	quietly openssl req -x509 "${curve[@]}" -days 3650 -subj '/CN=fleetprof' \
		-addext keyUsage=critical,keyCertSign -keyout new.key -out new.pem
	mv new.key ca.key
	mv new.pem ca.pem
fi

# certificate FILE NAME USE ALTERNATIVES makes one of the authority.
certificate() {
	quietly openssl req -x509 -CA ca.pem -CAkey ca.key "${curve[@]}" -days 365 -subj "/CN=$2" \
		-addext "subjectAltName=$4" -addext "extendedKeyUsage=$3" \
		-addext basicConstraints=critical,CA:FALSE -keyout new.key -out new.pem
	mv new.key "$1.key"
	mv new.pem "$1.pem"
}
names=
for name in "$@"; do
	kind=DNS
	[[ $name =~ ^[0-9.]+$|: ]] && kind=IP
	names+=${names:+,}$kind:$name
done
certificate server "$1" serverAuth "$names"
certificate agent agent clientAuth DNS:agent

for who in agent admin metrics; do
	if [[ ! -e $who.token ]]; then
		openssl rand -hex 32 >new.token
		mv new.token "$who.token"
	fi
done

hash() { tr -d '\n' <"$1" | sha256sum | cut -d ' ' -f 1; }
agent="{name: agent, roles: [push], token_sha256: $(hash agent.token)}"
certified='{name: agent-certificate, roles: [push], certificate: agent}'
admin="{name: admin, roles: [read, policy], token_sha256: $(hash admin.token)}"
metrics="{name: metrics, roles: [read], token_sha256: $(hash metrics.token)}"

# users FILE ENTRY… makes a file of users. One that is there is somebody's: it stays as
# it is, and who is missing is told.
users() {
	local file=$1 entry digits
	shift
	if [[ ! -e $file ]]; then
		printf 'users:\n' >new.yaml
		printf '  - %s\n' "$@" >>new.yaml
		mv new.yaml "$file"
		return
	fi
	for entry in "$@"; do
		digits=${entry##*token_sha256: }
		if [[ $digits != "$entry" ]] && ! grep -qF "${digits%\}}" "$file"; then
			printf '%s stays as it is, and lacks\n  - %s\n' "$file" "$entry" >&2
		fi
	done
}
users users.yaml "$agent" "$certified" "$admin"
users agent-users.yaml "$metrics"
