# keep.sh NAME INIT: holds a machine of that name as long as stdin is open; INIT is what its first process executes.
set -eu
name=$1 machine=
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    groups=/sys/fs/cgroup/$name
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
unshare --mount --net --pid --fork --kill-child=KILL sh -c "$2" init.sh "$name" $groups </dev/null &
machine=$!
exec >&-
cat >/dev/null
