#!/bin/busybox sh
# The first program of a machine that tests/kernels/vm.rs starts. Its root is that of the host, shared read-only, below
# a layer in memory; what it is to do, and what came of it, is in a folder that is shared for writing.
/bin/busybox mkdir -p /proc /sys /dev /host /layer /root
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in virtio_pci 9pnet_virtio 9p overlay; do modprobe "$module"; done

mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /host
mount -t tmpfs -o size=60% layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root
for folder in proc sys dev; do mount --move "/$folder" "/root/$folder"; done
mkdir -p /root/dev/pts /root/dev/shm /root/dev/net /root/usr/lib/modules
# Whoever opens it has its module loaded.
mknod /root/dev/net/tun c 10 200
mount -t devpts devpts /root/dev/pts
for folder in dev/shm run; do mount -t tmpfs -o mode=1777 tmpfs "/root/$folder"; done
mount --bind /lib/modules /root/usr/lib/modules
[ -e /root/lib/modules ] || ln -s ../usr/lib/modules /root/lib/modules
mkdir /root/run/vm
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 vm /root/run/vm

# The kernel loads what is asked for of it by this program, as that of a node does.
cp /bin/busybox /root/run/busybox
ln -s busybox /root/run/modprobe
echo /run/modprobe >/root/proc/sys/kernel/modprobe
cd /root
mount --move . /
exec chroot . /bin/bash /run/vm/run
