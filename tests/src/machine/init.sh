# init.sh NAME GROUP …: the first process of a machine, in namespaces of its own. Says its number outside, and stays.
# With WHOLE=HOSTNAME the machine has a name, and what it writes stays in the folder DISK.
set -eu
name=$1
shift
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
disk=${DISK:-/run/machine}
mkdir -p /run/lock /run/machine/groups "$disk/etc" "$disk/work" "$disk/opt" "$disk/lib"
mount -t overlay -o "lowerdir=/etc,upperdir=$disk/etc,workdir=$disk/work" overlay /etc
if [ -n "${WHOLE:-}" ]; then
    mount --bind "$disk/opt" /opt
    mount --bind "$disk/lib" /var/lib
    mount -t tmpfs tmpfs /var/log
    hostname "$WHOLE"
    # Of the whole machine below, and a kubelet sets them: here they have its values already.
    for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        file=/run/machine/sysctl/${setting%=*}
        mkdir -p "${file%/*}"
        echo "${setting#*=}" >"$file"
        mount --bind "$file" "/proc/sys/${setting%=*}"
    done
else
    mount -t tmpfs tmpfs /opt
    mount -t tmpfs tmpfs /var/lib
fi
echo "$name" >/run/name

# Only the groups of this machine, where a runtime looks for all there are.
for group in "$@"; do
    controller=${group#/sys/fs/cgroup}
    controller=${controller%/*}
    mkdir -p "/run/machine/groups$controller"
    # A namespace's own groups appear as all there are.
    if [ -z "${WHOLE:-}" ]; then
        mount --bind "$group" "/run/machine/groups$controller"
    elif [ -z "$controller" ]; then
        mount -t cgroup2 cgroup2 /run/machine/groups
    elif [ "$controller" = /systemd ]; then
        mount -t cgroup -o none,name=systemd cgroup "/run/machine/groups$controller"
    else
        mount -t cgroup -o "${controller#/}" cgroup "/run/machine/groups$controller"
    fi
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

# A kubelet mounts volumes where containers see them.
[ -z "${WHOLE:-}" ] || mount --make-rshared /
ip link set lo up
echo "$pid"
exec >/dev/null
# While it waits for one, the shell buries every child: nobody else waits for orphans here.
sleep infinity &
wait
