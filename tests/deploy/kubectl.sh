#!/bin/sh
# Plays kubectl for a cluster whose nodes are the folders beside it: its lists are files, and what is executed in a pod
# runs here: in an agent's pod with the run directory of its node, in any other in the namespace that a file names.
set -eu
cd "$(dirname "$0")"
echo "$*" >>calls
case "$1 $2" in
    "--namespace kube-system") agents=agents.json pods=pods.json ;;
    "--namespace selvedge-check-"*) agents=none pods=probes.json ;;
    *) echo "error: which namespace?" >&2; exit 1 ;;
esac
shift 2
case "$*" in
    "get nodes --output=json") cat nodes.json ;;
    "get pods --selector=app.kubernetes.io/name=selvedge --output=json") cat "$agents" ;;
    "get pods --all-namespaces --output=json" | "get pods --output=json") cat "$pods" ;;
    "apply --filename=-") cat >>applied; echo >>applied ;;
    "delete namespace selvedge-check-"*" --wait=false") ;;
    "exec agent-of-"*" probe ask "* | "exec probe-"*" --container probe -- /opt/selvedge/bin/selvedgectl "*)
        place=$(cat "$2.namespace")
        shift 6
        exec nsenter --net="$place" "$SELVEDGECTL" "$@"
        ;;
    "exec agent-of-"*" --container agent -- /opt/selvedge/bin/selvedgectl "*)
        node=${2#agent-of-}
        shift 6
        [ -d "$node/run" ] || { echo "error: container not found (\"agent\")" >&2; exit 1; }
        exec "$SELVEDGECTL" --run-dir "$node/run" "$@"
        ;;
    *) echo "error: unknown command: $*" >&2; exit 1 ;;
esac
