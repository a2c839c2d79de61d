#!/usr/bin/env bash
# reference.sh FOLDER: Debian sid's reference plugins, the newest that chains are tried with, in FOLDER/reference.
set -euo pipefail
"$(dirname "$0")/../../../.ci/debian" binary sid "${1:?the folder of the clients}/reference" containernetworking-plugins
