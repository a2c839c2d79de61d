# image.sh BUSYBOX FOLDER: makes FOLDER/image.tar, an image of busybox alone that sleeps, to serve as pause image as well.
set -eu
busybox=$1
cd "$2"
mkdir -p root/bin
cp "$busybox" root/bin/busybox
for applet in sh sleep nc cat; do ln -s busybox "root/bin/$applet"; done
tar -C root -cf layer.tar .
layer=$(sha256sum layer.tar)
cat >config.json <<JSON
{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${layer%% *}"]}}
JSON
cat >manifest.json <<JSON
[{"Config": "config.json", "RepoTags": ["selvedge.test/pause:1"], "Layers": ["layer.tar"]}]
JSON
tar -cf image.tar config.json manifest.json layer.tar
