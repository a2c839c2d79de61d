#!/usr/bin/env bash
# cnitool.sh FOLDER: cnitool as Debian bookworm has it (specification up to 1.0.0) and as sid has it (1.1.0), in
# FOLDER/cnitool/SUITE/cnitool, with its version beside it. Debian has the sources only: they are built here with a Go
# toolchain that is unpacked for it and removed again.
set -euo pipefail
folder=${1:?the folder of the clients}/cnitool
debian=$(realpath "$(dirname "$0")/../../../.ci/debian")

missing=()
for suite in bookworm sid; do
    [ -x "$folder/$suite/cnitool" ] || missing+=("$suite")
done
[ ${#missing[@]} -gt 0 ] || exit 0
# Its tests say that they are skipped, and why.
give_up() {
    echo "make: cnitool can't be built: $1" >&2
    exit 0
}
command -v apt-get >/dev/null || give_up "there is no apt-get to fetch its source and a Go toolchain"

mkdir -p "$folder"
work=$(realpath "$folder")/.work
rm -rf "$work"
trap 'rm -rf "$work"' EXIT

# The newest stable release that has a Go as new as sid's cnitool wants, and what that imports.
"$debian" binary trixie "$work" golang-1.24-go golang-1.24-src golang-github-vishvananda-netns-dev \
    golang-golang-x-sys-dev || give_up "apt could not fetch a Go toolchain"
for suite in "${missing[@]}"; do
    source=golang-github-appc-cni
    "$debian" source "$suite" "$work/$suite" "$source" || give_up "apt could not fetch its source"
    mkdir -p "$work/$suite/src/github.com/containernetworking" "$folder/$suite"
    mv "$work/$suite/$source" "$work/$suite/src/github.com/containernetworking/cni"
    cp "$work/$suite/$source.version" "$folder/$suite/cnitool.version"
    echo "make: building cnitool $(cat "$folder/$suite/cnitool.version")"
    (
        cd "$work/$suite"
        export GOROOT="$work/usr/lib/go-1.24" GOPATH="$work/$suite:$work/usr/share/gocode" GOCACHE="$work/cache"
        export GOTOOLCHAIN=local GO111MODULE=off GOPROXY=off GOFLAGS='' GOENV=off CGO_ENABLED=0
        "$GOROOT/bin/go" build -trimpath -o "$work/cnitool" github.com/containernetworking/cni/cnitool
    )
    mv "$work/cnitool" "$folder/$suite/cnitool"
done
