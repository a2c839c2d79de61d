# image.sh NAMES ROOT ARCHIVE PROGRAM WORD …: an image of a folder for `ctr images import`, as `docker save` writes them.
# It executes the program with these words, unless somebody gives others.
set -eu
names=$1 root=$2 archive=$3 program=$4
shift 4
work=$archive.work
mkdir -p "$work"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$root" -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar")
# The words as a list in JSON.
list() {
    items=
    for word in "$@"; do items="$items${items:+, }\"$word\""; done
    echo "[$items]"
}
cat >"$work/config.json" <<JSON
{"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["$program"], "Cmd": $(list "$@"), "Env": ["PATH=/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${layer%% *}"]}}
JSON
cat >"$work/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": $(list $names), "Layers": ["layer.tar"]}]
JSON
tar -C "$work" -cf "$archive" config.json manifest.json layer.tar
rm -rf "$work"
