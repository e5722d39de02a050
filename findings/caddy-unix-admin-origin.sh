#!/bin/sh
# Caddy 2.11.9: the admin endpoint on a Unix socket refuses each request that has an Origin, whichever it is.
#
# Expected: a Unix socket has no origins of its own, and no browser reaches it: an Origin says nothing there and is not looked
#           at, as a Host is not. A client that always names the origin which it calls works on a socket as on a TCP port.
# Actual:   no origin is allowed on a socket unless the configuration lists some, and an Origin that is not allowed is refused
#           with 403. On a TCP port the endpoint's own address is allowed. Only a request without an Origin gets through.
set -eu
temp=$(mktemp -d)
caddy=
trap '[ -z "$caddy" ] || { kill "$caddy"; wait "$caddy"; } || true; chmod -R u+w "$temp"; rm -rf "$temp"' EXIT
cd "$temp"
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS= CGO_ENABLED=0 GOBIN="$temp/bin" XDG_CONFIG_HOME="$temp" XDG_DATA_HOME="$temp"
version=v2.11.9
go install "github.com/caddyserver/caddy/v2/cmd/caddy@$version" 2>go.log || { echo "Caddy $version cannot be built" >&2; exit 2; }

# asks prints the statuses of a request without an Origin and of one with that of its URL.
asks() { # where the endpoint listens, the URL, and curl's way to it
	echo '{"admin":{"listen":"'"$1"'"}}' >caddy.json
	url=$2 && shift 2
	bin/caddy run --config caddy.json 2>caddy.log &
	caddy=$!
	for _ in $(seq 100); do
		curl -s -o answer "$@" "$url/config/" && break
		sleep 0.1
	done
	status='-s -o answer -w %{http_code}'
	# shellcheck disable=SC2086
	echo "$(curl $status "$@" "$url/config/") $(curl $status -H "Origin: $url" "$@" "$url/config/")"
	kill "$caddy" && wait "$caddy" || true
	caddy=
}

echo "Caddy $version"
echo "expected: 200 200, be it on a TCP port or on a Unix socket"
echo "actual:   200 403 on the Unix socket"
port=${ADMIN_PORT:-22019}
asks "127.0.0.1:$port" "http://127.0.0.1:$port" >tcp
echo "saw: TCP port: $(cat tcp)"
asks "unix/$temp/socket" http://127.0.0.1 --unix-socket "$temp/socket" >unix
echo "saw: Unix socket: $(cat unix)"
[ "$(cat tcp)" = '200 200' ] && [ "$(cat unix)" = '200 403' ] || { echo "CHANGED: this is not what was found"; exit 1; }
