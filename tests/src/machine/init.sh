# init.sh NAME GROUP …: the first process of a machine, in namespaces of its own. Says its number outside, and stays.
set -eu
name=$1
shift
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /opt
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/lock /run/machine/etc /run/machine/work /run/machine/groups
mount -t overlay -o lowerdir=/etc,upperdir=/run/machine/etc,workdir=/run/machine/work overlay /etc
echo "$name" >/run/name

# Only the groups of this machine, where a runtime looks for all there are.
for group in "$@"; do
    controller=${group#/sys/fs/cgroup}
    controller=${controller%/*}
    mkdir -p "/run/machine/groups$controller"
    mount --bind "$group" "/run/machine/groups$controller"
done
umount --recursive --lazy /sys/fs/cgroup
# It shows the links of the network that it was mounted in.
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
for group in "$@"; do
    controller=${group#/sys/fs/cgroup}
    controller=${controller%/*}
    [ -z "$controller" ] || mkdir "/sys/fs/cgroup$controller"
    mount --move "/run/machine/groups$controller" "/sys/fs/cgroup$controller"
done

ip link set lo up
echo "$pid"
exec >/dev/null
# While it waits for one, the shell buries every child: nobody else waits for orphans here.
sleep infinity &
wait
