#!/usr/bin/env bash
# containerd.sh FOLDER: containerd of Debian bookworm (1.6) and sid (2.1), runc and busybox, in FOLDER/containerd.
# They are unpacked and not installed: installing containerd would start it.
set -euo pipefail
folder=${1:?the folder of the clients}/containerd
debian=$(dirname "$0")/../../../.ci/debian
"$debian" binary bookworm "$folder/bookworm" containerd runc busybox-static &&
    "$debian" binary sid "$folder/sid" containerd ||
    echo "make: containerd could not be unpacked: its tests are skipped" >&2
