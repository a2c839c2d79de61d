#!/usr/bin/env bash
# image.sh PROGRAMS ARCHIVE: writes a container image of the programs in the folder PROGRAMS, as an archive that
# `ctr images import`, `docker load`, `podman load` and `kind load image-archive` take. Without a daemon, and as root of
# nothing. The same programs give the same bytes, wherever and whenever.
set -euo pipefail
programs=${1:?the folder of the programs} archive=${2:?the archive to write}
export LC_ALL=C

case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) echo "image.sh: no name is known here for the architecture $(uname -m)" >&2; exit 1 ;;
esac
version=$("$programs/selvedge-agent" --version)
version=${version##* }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Besides the programs: the places where a DaemonSet's pod has something mounted, so that no runtime has to make them.
mkdir -p "$work"/root/{etc/selvedge,host/etc/cni/net.d,host/opt/cni/bin,host/proc/sys/net,opt/selvedge/bin} \
    "$work"/root/{dev,proc,run,sys,var/run/secrets/kubernetes.io/serviceaccount}
cp "$programs"/{selvedge,selvedge-agent,selvedge-tunnel,selvedgectl} "$work/root/opt/selvedge/bin/"

# Nothing of the folder, the user and the moment gets into the bytes.
pack() {
    tar --create --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=u=rwX,go=rX "$@"
}
digest() {
    sha256sum "$1" | cut -d ' ' -f 1
}
pack --file "$work/layer.tar" --directory "$work/root" .
diff=$(digest "$work/layer.tar")
gzip --no-name --best "$work/layer.tar"
mkdir "$work/image"
layer=$(digest "$work/layer.tar.gz").tar.gz
mv "$work/layer.tar.gz" "$work/image/$layer"

cat >"$work/config.json" <<CONFIG
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z",\
"config":{"Entrypoint":["/opt/selvedge/bin/selvedge-agent"],"Env":["PATH=/opt/selvedge/bin"],\
"Labels":{"org.opencontainers.image.title":"selvedge","org.opencontainers.image.version":"$version",\
"org.opencontainers.image.licenses":"Apache-2.0"}},\
"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},\
"history":[{"created":"1970-01-01T00:00:00Z","created_by":"deploy/image.sh"}]}
CONFIG
config=$(digest "$work/config.json").json
mv "$work/config.json" "$work/image/$config"
printf '[{"Config":"%s","RepoTags":["selvedge:%s"],"Layers":["%s"]}]\n' "$config" "$version" "$layer" \
    >"$work/image/manifest.json"

mkdir -p "$(dirname "$archive")"
pack --file "$work/archive" --directory "$work/image" --transform='s|^\./||' manifest.json "$config" "$layer"
mv "$work/archive" "$archive"
echo "$archive: selvedge:$version for linux/$architecture, $(stat -c %s "$archive") bytes, sha256:${config%.json}"
