#!/usr/bin/env bash
# render.sh HELM FOLDER: renders the chart with its defaults into FOLDER/selvedge.yaml, and what takes it off the nodes
# again into FOLDER/selvedge-uninstall.yaml.
set -euo pipefail
helm=${1:?the helm to render with} folder=${2:?the folder to write into}
chart=$(realpath "$(dirname "$0")/helm/selvedge")
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HELM_CACHE_HOME="$home" HELM_CONFIG_HOME="$home" HELM_DATA_HOME="$home"

render() {
    "$helm" template selvedge "$chart" --namespace kube-system "$@"
}
{
    echo "# Selvedge, with its defaults: kubectl apply -f deploy/selvedge.yaml"
    echo "# Rendered from deploy/helm/selvedge by \`make manifests\`: to be changed there."
    render
} >"$folder/selvedge.yaml"
{
    echo "# Takes Selvedge off the nodes, applied over it; then both are deleted. See docs/install/uninstall.md."
    echo "# Rendered from deploy/helm/selvedge by \`make manifests\`: to be changed there."
    render --set uninstall=true
} >"$folder/selvedge-uninstall.yaml"
