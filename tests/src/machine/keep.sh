# keep.sh NAME INIT: holds a machine of that name as long as stdin is open; INIT is what its first process executes.
# With WHOLE=HOSTNAME it has namespaces of every kind, and every controller.
set -eu
name=$1 machine='' spaces='--mount --net --pid'
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    groups=/sys/fs/cgroup/$name
elif [ -n "${WHOLE:-}" ]; then
    groups=
    for controller in /sys/fs/cgroup/*/cgroup.procs; do
        controller=${controller%/cgroup.procs}
        # Some are links to others; where there is cgroup v2 too, it has no controller then.
        [ -h "$controller" ] || [ "$controller" = /sys/fs/cgroup/unified ] || groups="$groups $controller/$name"
    done
else
    # Without these two controllers runc makes no container.
    groups="/sys/fs/cgroup/devices/$name /sys/fs/cgroup/cpu/$name"
fi

end() {
    [ -z "$machine" ] || kill -KILL "$machine" || true
    wait
    # The last processes of a namespace may take a moment to be gone.
    tries=500
    for group in $groups; do
        while [ -d "$group" ] && [ "$tries" -gt 0 ]; do
            find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
            [ ! -d "$group" ] || sleep 0.02
            tries=$((tries - 1))
        done
        [ ! -d "$group" ] || echo "could not remove $group" >&2
    done
}
trap end EXIT
mkdir $groups
(
    if [ -n "${WHOLE:-}" ]; then
        spaces="$spaces --uts --ipc --cgroup"
        for group in $groups; do
            for set in cpus mems; do
                [ ! -e "$group/cpuset.$set" ] || cat "${group%/*}/cpuset.$set" >"$group/cpuset.$set"
            done
            # The namespace's root is the group that its first process is in.
            echo 0 >"$group/cgroup.procs"
        done
    fi
    exec unshare $spaces --fork --kill-child=KILL sh -c "$2" init.sh "$name" $groups </dev/null
) &
machine=$!
exec >&-
cat >/dev/null
