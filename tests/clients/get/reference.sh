#!/usr/bin/env bash
# reference.sh FOLDER: Debian sid's reference plugins, the newest that chains are tried with, in FOLDER/reference.
set -euo pipefail
if ! command -v apt-get >/dev/null; then
    echo "make: the newest reference plugins can't be fetched without apt-get" >&2
    exit 0
fi
"$(dirname "$0")/../../../.ci/debian" binary sid "${1:?the folder of the clients}/reference" containernetworking-plugins
