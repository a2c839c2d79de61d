#!/usr/bin/env bash
# get.sh FOLDER KERNEL …: what boots those kernels, in FOLDER: qemu of Debian trixie with all its libraries in
# FOLDER/qemu, and in FOLDER/KERNEL of one or another suite a kernel as qemu starts it (vmlinux), those of its modules
# that have to do with networks (lib/modules), and its name (release). Nothing is installed; what is there stays.
set -euo pipefail
folder=$(realpath -m "${1:?the folder of the kernels}")
shift
debian=$(realpath "$(dirname "$0")/../../.ci/debian")
command -v apt-get >/dev/null || { echo "make: there is no apt-get to fetch qemu and kernels with" >&2; exit 1; }
qemu="$folder/qemu"
ONLY='^(lib|qemu|seabios|busybox-static|kmod|xz-utils|zstd|zlib)' \
    "$debian" whole trixie "$qemu" qemu-system-x86 busybox-static kmod xz-utils zstd

# A program that was unpacked, with the libraries that were.
unpacked() {
    "$qemu/usr/lib64/ld-linux-x86-64.so.2" --library-path "$qemu/usr/lib/x86_64-linux-gnu" "$qemu/usr/$1" "${@:2}"
}

# suite KERNEL: which suite of Debian has it.
suite() {
    case $1 in
    6.1) echo bookworm ;;
    6.12) echo trixie ;;
    7.2) echo forky ;;
    *) echo "make: $1 is none of the kernels 6.1, 6.12 and 7.2" >&2; return 1 ;;
    esac
}

# vmlinux IMAGE: the kernel itself, out of the image that would unpack itself, whose header says where it is.
vmlinux() {
    local sectors offset length
    sectors=$(od -An -tu1 -j$((0x1f1)) -N1 "$1")
    read -r offset length < <(od -An -tu4 -j$((0x248)) -N8 "$1")
    offset=$(((sectors + 1) * 512 + offset))
    # Its last four bytes are the length of what comes out.
    local payload=(dd if="$1" iflag=skip_bytes,count_bytes skip="$offset" count=$((length - 4)) bs=1M status=none)
    case $(od -An -tx1 -j"$offset" -N4 "$1") in
    ' fd 37 7a 58') "${payload[@]}" | unpacked bin/xz -dc ;;
    ' 28 b5 2f fd') "${payload[@]}" | unpacked bin/zstd -dc ;;
    *) echo "make: $1 is packed in a way that is not known here" >&2; return 1 ;;
    esac
}

# modules FROM TO: those that networks, and the machine that qemu makes, may need, unpacked.
modules() (
    cd "$1"
    # Not every kernel has each of these folders.
    { find kernel/{net,drivers/net,drivers/virtio,fs/9p,fs/netfs,fs/fscache,fs/overlayfs,lib,crypto,arch/x86} \
        -name '*.ko*' 2>/dev/null || true; } |
        grep -Ev '^kernel/drivers/net/(ethernet|wireless|usb|can|phy|wwan|dsa|hamradio|fddi|arcnet|ieee802154)/' |
        grep -Ev '^kernel/net/(bluetooth|mac80211|wireless|can|nfc|sunrpc|rds|tipc|atm|ax25|batman-adv|ceph)/' |
        tar -cf - -T - | tar -xf - -C "$2"
    cp modules.order modules.builtin modules.builtin.modinfo "$2" 2>/dev/null || true
    find "$2" -name '*.xz' -exec "$qemu/usr/lib64/ld-linux-x86-64.so.2" \
        --library-path "$qemu/usr/lib/x86_64-linux-gnu" "$qemu/usr/bin/xz" -d {} +
)

for kernel in "$@"; do
    suite=$(suite "$kernel")
    [ ! -s "$folder/$kernel/release" ] || continue
    work="$folder/.work" half="$folder/.half"
    rm -rf "$work" "$half" "${folder:?}/$kernel"
    ONLY='^linux-(base|image|binary|modules)-[0-9]' "$debian" whole "$suite" "$work" linux-image-amd64
    image=$(find "$work" -name 'vmlinuz*' -type f)
    # Modules say which kernel they are of, wherever it lies itself.
    from=$(find "$work" -path '*/lib/modules/*' -prune -type d)
    release=$(basename "$from")
    case $release in
    "$kernel".*) ;;
    *) echo "make: Debian $suite has the kernel $release now, which is taken where $kernel is asked for" >&2 ;;
    esac
    to="$half/lib/modules/$release"
    mkdir -p "$to"
    vmlinux "$image" >"$half/vmlinux"
    modules "$from" "$to"
    unpacked sbin/depmod -b "$half" "$release"
    echo "$release" >"$half/release"
    mv "$half" "$folder/$kernel"
    rm -rf "$work"
done
