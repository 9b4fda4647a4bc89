#!/bin/sh
# First process of the control plane's namespaces. It dies, and with it all of the cluster dies.
set -eu
mount --make-rshared /
mount -t proc proc /proc
hostname control-plane
exec "$PAUSE"
