#!/usr/bin/env bash
# reference.sh FOLDER: unpacks Debian sid's containernetworking-plugins below FOLDER, and installs nothing.
# Prints nothing where the plugins are there already. FOLDER/containernetworking-plugins.version says which they are.
set -euo pipefail
exec "$(dirname "$0")/../.ci/debian" binary sid "${1:?the folder to unpack below}" containernetworking-plugins
