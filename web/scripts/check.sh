#!/bin/sh
# Fails when the page does not compile, or when what is committed is not what `make web` would build now.
set -eu
cd "$(dirname "$0")/../.."
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
node web/scripts/abi.mjs "$built/abi.ts"
cmp -s "$built/abi.ts" web/src/abi.ts || { echo "web/src/abi.ts is stale: run make web" >&2; exit 1; }
rm "$built/abi.ts"
tsc -p web
WEB_OUT="$built" vite build --config web/vite.config.mjs --logLevel warn
diff -rq "$built" offchain/api/static >&2 || { echo "offchain/api/static is stale: run make web" >&2; exit 1; }
