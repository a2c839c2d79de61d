#!/usr/bin/env bash
# podman.sh FOLDER: podman of Debian bookworm, the last one with a CNI backend, and what it runs, in FOLDER/podman.
# Installed it would bring units that systemd starts; unpacked it is nothing but files. The libraries are those that
# a machine without it may lack.
set -euo pipefail
folder=${1:?the folder of the clients}/podman
"$(dirname "$0")/../../../.ci/debian" binary bookworm "$folder" podman crun conmon catatonit busybox-static \
    libassuan0 libdevmapper1.02.1 libglib2.0-0 libgpg-error0 libgpgme11 libseccomp2 libsubid4 libyajl2 ||
    { echo "make: podman could not be had; its tests will say so" >&2; exit 0; }
# Some are from before /lib was /usr/lib.
if [ -d "$folder/lib" ]; then
    cp -a "$folder/lib/." "$folder/usr/lib"
    rm -rf "$folder/lib"
fi
