# image.sh NAME ROOT ARCHIVE COMMAND …: an image of a folder for `ctr images import`, as `docker save` writes them.
set -eu
name=$1 root=$2 archive=$3
shift 3
work=$archive.work
mkdir -p "$work"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$root" -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar")
command=
for word in "$@"; do command="$command${command:+, }\"$word\""; done
cat >"$work/config.json" <<JSON
{"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [$command], "Env": ["PATH=/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${layer%% *}"]}}
JSON
cat >"$work/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$name"], "Layers": ["layer.tar"]}]
JSON
tar -C "$work" -cf "$archive" config.json manifest.json layer.tar
rm -rf "$work"
