#!/bin/sh
# Runs its arguments, a kubelet, with /proc/sys read-only and with a few settings of the kernel shown to it as it wants them: those
# of the machine stay as they are. SYSCTLS holds a file for each, with dots for slashes.
set -eu
mount --make-rprivate /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
for file in "$SYSCTLS"/*; do
  mount --bind "$file" "/proc/sys/$(basename "$file" | tr . /)"
done
exec "$@"
