#!/bin/sh
# Caddy 2.11.9: after one refused reload, a server on a Unix socket can never be reloaded again.
#
# Expected: a config that cannot be started changes nothing, so that a good one loads afterwards, as it does where the
#           same server listens on a TCP port.
# Actual:   the refused config had taken the Unix socket over, and closed its copy when it was given up. Caddy copies the
#           next listener from that closed one: each later reload that has the socket is refused with "use of closed
#           network connection", the config that runs included. It goes on serving; only a restart helps.
set -eu
temp=$(mktemp -d)
caddy=
trap '[ -z "$caddy" ] || { kill "$caddy"; wait "$caddy"; } || true; chmod -R u+w "$temp"; rm -rf "$temp"' EXIT
cd "$temp"
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS= CGO_ENABLED=0 GOBIN="$temp/bin" XDG_CONFIG_HOME="$temp" XDG_DATA_HOME="$temp"
version=v2.11.9
go install "github.com/caddyserver/caddy/v2/cmd/caddy@$version" 2>go.log || { echo "Caddy $version cannot be built" >&2; exit 2; }

admin=127.0.0.1:${ADMIN_PORT:-22019}
# 192.0.2.1 is an address for documentation (RFC 5737): nobody can listen there.
config() { # its listeners, and what it answers
	printf '{"admin":{"listen":"%s"},"apps":{"http":{"servers":{"one":{"automatic_https":{"disable":true},"listen":[%s],
		"routes":[{"handle":[{"handler":"static_response","body":"%s"}]}]}}}}}' "$admin" "$1" "$2"
}
load() { # prints Caddy's answer
	config "$1" "$2" | curl -s -w '%{http_code}' -H 'Content-Type: application/json' --data-binary @- "http://$admin/load"
}
# try prints what is served after a good, a refused and a good config again, and how many of three loads were refused.
try() { # a listener, and curl's way to it
	listener=$1 && shift
	load "$listener" first >answer || true
	grep -q '^200$' answer || { echo "the first config was refused: $(cat answer)" >&2; exit 2; }
	load "$listener,\"192.0.2.1:8080\"" broken >answer || true
	grep -q '400$' answer || { echo "the config that cannot be started was not refused" >&2; exit 2; }
	refused=0
	for _ in 1 2 3; do
		load "$listener" second >answer || true
		grep -q 'use of closed network connection' answer && refused=$((refused + 1))
		sleep 1
	done
	echo "$(curl -s "$@") $refused"
}

echo '{"admin":{"listen":"'"$admin"'"}}' >caddy.json
bin/caddy run --config caddy.json 2>caddy.log &
caddy=$!
for _ in $(seq 100); do
	curl -s -o answer "http://$admin/config/" && break
	sleep 0.1
done

echo "Caddy $version"
echo "expected: second 0, be it on a TCP port or on a Unix socket: the good config serves after the refused one"
echo "actual:   first 3 on the Unix socket: three loads of a good config are refused, and the old one goes on serving"
tcp=$(try '"127.0.0.1:'"${PORT:-22080}"'"' "http://127.0.0.1:${PORT:-22080}/")
echo "saw: TCP port: $tcp"
unix=$(try '"unix/'"$temp"'/socket"' --unix-socket "$temp/socket" http://localhost/)
echo "saw: Unix socket: $unix"
[ "$tcp" = 'second 0' ] && [ "$unix" = 'first 3' ] || { echo "CHANGED: this is not what was found"; exit 1; }
