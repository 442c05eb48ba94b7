#!/usr/bin/env bash
# The README's test command in a bare Debian 12: a minbase root by debootstrap in which nothing is installed, without
# /etc/hosts and without CUDA; once as root, then as an ordinary user whose home is read-only.
# usage: clean_root.sh [--as root|user] [--keep] [CTEST ARGUMENTS | --run COMMAND…]
#   --as     only this one of the two; `user` needs the packages that a run as root installed
#   --keep   go on in the root and the build trees of the last run instead of starting bare
#   --run    this in the tree instead of the test command
# Everything is in build/clean-root; all that it starts and mounts is gone when it ends, however it ends. The machine's
# Debian sources and proxy serve the root, and its ccache lies in build/clean-root/ccache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
place=$repository/build/clean-root
inside=/srv/shoal  # where the tree's parent lies in the root

die() { echo "clean-root: $*" >&2; exit 1; }
usage() { sed -n '4,7s/^# //p' "${BASH_SOURCE[0]}"; exit "$1"; }

sources() {  # the machine's lists of Debian 12, or Debian's own
  local found
  found=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    grep ' bookworm' | sort -u || true)
  if ! grep -q ' bookworm main$' <<<"$found"; then
    found="deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian-security bookworm-security main"
  fi
  echo "$found"
}

make_base() {  # once: the root as debootstrap leaves it
  [ -d "$place/base" ] && return
  command -v debootstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends debootstrap; }
  local mirror
  mirror=$(sources | sed -n 's/^deb \([^ ]*\) bookworm main$/\1/p' | head -1)
  echo "clean-root: debootstrap from $mirror"
  rm -rf "$place/base.new"
  debootstrap --variant=minbase bookworm "$place/base.new" "$mirror" >"$place/debootstrap.log" ||
    die "debootstrap failed: see $place/debootstrap.log"
  mv "$place/base.new" "$place/base"
}

fresh_root() {
  rm -rf "$place/root"
  cp -a "$place/base" "$place/root"
  sources >"$place/root/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::(https?|ftp|Check-[A-Za-z-]*|Retries)\b' >"$place/root/etc/apt/apt.conf.d/90machine" || true
  chroot "$place/root" useradd --create-home --shell /bin/bash shoal
  mkdir -p "$place/root$inside"
}

clone() {  # clone OWNER: HEAD, without anything that git ignores
  local tree=$place/tree-$1
  [ -n "$keep" ] || rm -rf "$tree"
  if [ -d "$tree/.git" ]; then
    git -C "$tree" -c safe.directory="$tree" fetch -q "$repository" HEAD
    git -C "$tree" -c safe.directory="$tree" reset -q --hard FETCH_HEAD
  else
    git clone -q --no-hardlinks "$repository" "$tree"
  fi
  chown -R --reference="$place/root/$2" "$tree" "$place/ccache"
}

# In namespaces of its own, with $root as the only file system: what follows can reach and leave nothing outside.
enter() {  # enter OWNER HOME COMMAND…
  local owner=$1 home=$2 root=$place/root node
  shift 2
  mount --bind "$root" "$root"
  cd "$root"
  mount -t proc proc proc
  mount --rbind /sys sys
  mount -t tmpfs -o mode=755 tmpfs dev
  for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  mkdir -p "$root$inside/main" "$root$inside/shared" "$root/run/lock"
  mount --bind "$place/tree-$owner" "$root$inside/main"
  if [ -d "$shared" ]; then
    mount --bind "$shared" "$root$inside/shared"
    mount -o remount,ro,bind "$root$inside/shared"
  else
    rmdir "$root$inside/shared"
  fi
  rm -f "$root/etc/hosts"
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  if [ "$owner" = user ]; then  # ccache's own place is in the home: CMake has to find another
    mount --bind "$root$home" "$root$home"
    mount -o remount,ro,bind "$root$home"
    mkdir -p "$root$inside/main/build/release/ccache"
    chown -R --reference="$root$home" "$root$inside/main/build"
    mount --bind "$place/ccache" "$root$inside/main/build/release/ccache"
  else
    mkdir -p "$root$home/.cache/ccache"
    mount --bind "$place/ccache" "$root$home/.cache/ccache"
  fi
  mkdir -p .outside
  pivot_root . .outside
  cd /
  umount -l .outside
  cd "$inside/main"
  local run=(env -i HOME="$home" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb SHOAL_JOBS="$jobs" "$@")
  [ "$owner" = root ] || run=(setpriv --reuid=shoal --regid=shoal --init-groups "${run[@]}")
  exec "${run[@]}"
}

run_as() {  # run_as OWNER COMMAND…
  local owner=$1 home=root
  [ "$owner" = root ] || home=home/shoal
  shift
  clone "$owner" "$home"
  echo "clean-root: $* as $owner of $(git -C "$repository" describe --always), $(date +%T)"
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "$here/clean_root.sh" --enter "$shared" "$jobs" "$owner" "/$home" "$@"
}

if [ "${1:-}" = --enter ]; then
  shared=$2 jobs=$3
  shift 3
  enter "$@"
fi
owners=(root user) keep="" run=(./dev test)
while [ $# -gt 0 ]; do
  case "$1" in
    --as) [[ ${2:-} =~ ^(root|user)$ ]] || usage 2 >&2; owners=("$2"); shift 2 ;;
    --keep) keep=1; shift ;;
    --run) shift; run=(); break ;;
    --help) usage 0 ;;
    *) break ;;
  esac
done
[ "$(id -u)" -eq 0 ] || die "needs root, for debootstrap and mounts"
command -v apt-get >/dev/null || die "needs apt-get and debootstrap"
[ -z "$(git -C "$repository" status --porcelain)" ] || echo "clean-root: what is not committed is not tested"
shared=$(realpath -m "${SHOAL_SHARED:-$repository/../shared}")
jobs=${SHOAL_JOBS:-$(nproc)}
mkdir -p "$place/ccache"
exec 9>"$place/.lock"
flock -n 9 || die "another run holds $place/.lock"
make_base
if [ "${owners[0]}" = root ]; then
  [ -n "$keep" ] && [ -d "$place/root" ] || fresh_root
else
  [ -d "$place/root/usr/share/doc/ccache" ] || die "the root lacks the packages: run with --as root first"
fi
status=0
for owner in "${owners[@]}"; do
  run_as "$owner" "${run[@]}" "$@" || { status=$?; echo "clean-root: failed as $owner"; }
done
exit $status
