#!/bin/sh
# First process of a node's namespaces: NODE is its name, NODE_DIRECTORY its disk. Killing it is pulling the node's plug.
# Paths are the usual ones, so each node has its own /var/lib, /var/log and /run.
set -eu
mount --make-rshared /
mount -t proc proc /proc
hostname "$NODE"
mount --bind "$NODE_DIRECTORY/lib" /var/lib
mount --bind "$NODE_DIRECTORY/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-rshared /
exec "$PAUSE"
