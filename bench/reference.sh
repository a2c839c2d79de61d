#!/usr/bin/env bash
# reference.sh FOLDER: unpacks Debian sid's containernetworking-plugins below FOLDER, and installs nothing.
# apt gets a configuration, lists and a cache of its own there; the mirror is the one that this machine uses.
# Prints nothing where the plugins are there already. FOLDER/version says which they are.
set -euo pipefail
package=containernetworking-plugins
folder=$(realpath -m "${1:?the folder to unpack below}")
[ -x "$folder/usr/lib/cni/bridge" ] && [ -s "$folder/version" ] && exit 0

# The URI of the machine's own source of Debian, which apt knows however it is written down.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p
}
mirror=$(mirror)
if [ -z "$mirror" ]; then
    echo "make: apt has no package lists yet: asking the machine's sources"
    apt-get update || true
    mirror=$(mirror)
fi
[ -n "$mirror" ] || { echo "make: apt knows no source of Debian packages to take $package from" >&2; exit 1; }

mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial,parts}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror sid main" >"$folder/apt/sources.list"
cat >"$folder/apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "$folder/apt/parts";
Dir::State::lists "$folder/apt/lists";
Dir::Cache "$folder/apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$folder/apt/apt.conf"

echo "make: unpacking $package of Debian sid below $folder"
apt-get update
(cd "$folder" && apt-get download "$package")
dpkg -x "$folder"/${package}_*.deb "$folder"
dpkg-deb --field "$folder"/${package}_*.deb Version >"$folder/version"
rm -r "$folder/apt" "$folder"/${package}_*.deb
