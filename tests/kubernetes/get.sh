#!/usr/bin/env bash
# get.sh FOLDER [e2e]: what `make kubernetes` runs, in FOLDER: Kubernetes 1.20.2 built from Debian bookworm's source
# package in FOLDER/bin, and etcd, containerd, runc and busybox of bookworm unpacked in FOLDER/debian.
# With e2e also the end-to-end suite and its agnhost. Programs that are there stay; nothing is installed.
# KUBE_BIN=DIR: Kubernetes' programs are a person's own, and none is built; the suite runs if it is among them.
set -euo pipefail
folder=$(realpath -m "${1:?the folder of the cache}")
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "make: the nodes made here need control groups of version 1, and this machine has version 2 alone" >&2
    exit 1
fi
debian=$(realpath "$(dirname "$0")/../../.ci/debian")

"$debian" binary bookworm "$folder/debian" etcd-server containerd runc busybox-static

wanted=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
[ "${2:-}" != e2e ] || [ -n "${KUBE_BIN:-}" ] || wanted+=(agnhost e2e.test)
missing=()
for program in "${wanted[@]}"; do
    [ -x "${KUBE_BIN:-$folder/bin}/$program" ] || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ -n "${KUBE_BIN:-}" ]; then
    echo "make: KUBE_BIN=$KUBE_BIN lacks ${missing[*]}" >&2
    exit 1
fi

# One build at a time. What an earlier one had compiled is taken up by Go's cache, as long as the work folder is there.
mkdir -p "$folder/bin"
exec 9>"$folder/.lock"
flock 9
work="$folder/.work"
"$debian" binary bookworm "$work/go" golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
source="$work/path/src/k8s.io/kubernetes"
"$debian" source bookworm "$work/path/src/k8s.io" kubernetes
# Go since 1.18 hands the maps that reflect2 1.0.1 walks through to it in another way: the first label crashed the server.
reflect2=github.com/modern-go/reflect2
rm -rf "$source/vendor/$reflect2"
cp -r "$work/go/usr/share/gocode/src/$reflect2" "$source/vendor/$reflect2"

# Its go.mod doesn't agree with its vendor folder: it is built as its own scripts did, in a GOPATH.
export GOROOT="$work/go/usr/lib/go-1.19" GOPATH="$work/path" GOCACHE="$work/cache" GOTMPDIR="$work"
export GO111MODULE=off GOPROXY=off GOFLAGS='' GOENV=off CGO_ENABLED=0
export PATH="$GOROOT/bin:$PATH"
vendor=k8s.io/kubernetes/vendor
flags="-s -w"
for version in $vendor/k8s.io/component-base/version $vendor/k8s.io/client-go/pkg/version k8s.io/kubernetes/pkg/version; do
    flags+=" -X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20 -X $version.gitTreeState=archive"
done
cd "$source"

# build OUTPUT go-verb PACKAGE: under another name until it is whole.
build() {
    local output=$1 started=$SECONDS
    shift
    echo "make: building $output of Kubernetes 1.20.2"
    go "${@:1:1}" -ldflags "$flags" -trimpath -o "$work/half" "${@:2}"
    mv "$work/half" "$output"
    echo "make: built $output in $((SECONDS - started)) s"
}

# Two generated files are not in the source package. First the API's descriptions: of every package that asks for it.
described=pkg/generated/openapi/zz_generated.openapi.go
if [ ! -e "$described" ]; then
    build "$work/openapi-gen" build "$vendor/k8s.io/kube-openapi/cmd/openapi-gen"
    packages=$(grep -rl --include='*.go' '^// *+k8s:openapi-gen=' pkg staging/src/k8s.io |
        grep -v -e /code-generator/ -e /sample-apiserver/ -e /testdata/ | xargs -n1 dirname | sort -u |
        sed 's|^staging/src|vendor|; s|^|k8s.io/kubernetes/|' | paste -sd,)
    rm -rf "$work/described"
    "$work/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi \
        -O zz_generated.openapi -h /dev/null -r "$work/violations" --output-base "$work/described"
    mv "$work/described/k8s.io/kubernetes/$described" "$described"
fi
# Then the files that the end-to-end suite carries in itself.
carried=test/e2e/generated/bindata.go
if [ "${2:-}" = e2e ] && [ ! -e "$carried" ]; then
    build "$work/go-bindata" build "$vendor/github.com/go-bindata/go-bindata/go-bindata"
    "$work/go-bindata" -nometadata -o "$work/bindata" -pkg generated -ignore .jpg -ignore .png -ignore .md \
        -ignore 'BUILD(\.bazel)?' test/conformance/testdata/... test/e2e/testing-manifests/... \
        test/e2e_node/testing-manifests/... test/images/... test/fixtures/...
    mv "$work/bindata" "$carried"
fi

for program in "${missing[@]}"; do
    case $program in
    agnhost) build "$folder/bin/$program" build k8s.io/kubernetes/test/images/agnhost ;;
    e2e.test) build "$folder/bin/$program" test -c k8s.io/kubernetes/test/e2e ;;
    *) build "$folder/bin/$program" build "k8s.io/kubernetes/cmd/$program" ;;
    esac
done
