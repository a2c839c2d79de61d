#!/bin/sh
# A CNI plugin that writes down what it is told, does as it is ordered, and then is ours.
# /run/recorder/calls/TIME.env and .stdin: a call. /run/recorder/orders/VERB: lines of shell to be executed first.
mkdir -p /run/recorder/calls
call=/run/recorder/calls/$(date +%s%N)-$$
cat >"$call.stdin"
env >"$call.part"
mv "$call.part" "$call.env"
orders=/run/recorder/orders/$CNI_COMMAND
[ ! -e "$orders" ] || . "$orders"
exec /opt/cni/bin/selvedge <"$call.stdin"
