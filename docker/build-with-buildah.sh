#!/usr/bin/env bash
# Builds the Dockerfile where there is no Docker engine, as root of a Debian: with buildah, without a daemon, without mounts of its own.
#
#   docker/build-with-buildah.sh FOLDER     makes localhost/transship:built in a store of its own in FOLDER, and the same image as an OCI layout
#                                           in FOLDER/image, with its SBOM and its provenance as referrers
#   CONTAINERS_CONF=FOLDER/containers.conf CONTAINERS_STORAGE_CONF=FOLDER/storage.conf podman run localhost/transship:built …
#
# Where the base cannot be pulled a stand-in takes its place: Debian's base system with Node and npm out of npm's registry. It is
# kept in FOLDER for the next time.
#
# apt-get install buildah runc debootstrap ca-certificates
set -euo pipefail
checkout=$(realpath "$(dirname "$0")/..")
base=$(sed -n 's/^ARG BASE=//p' "$checkout/Dockerfile")
mkdir -p "${1:?a folder is needed}"
folder=$(realpath "$1")

# what works in a container of a CI: no systemd, no limit raised, and overlay only where the kernel lets us
cat >"$folder/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
store() {
  printf '[storage]\ndriver = "%s"\ngraphroot = "%s/%s"\nrunroot = "%s/%s-run"\n' "$1" "$folder" "$1" "$folder" "$1" >"$folder/storage.conf"
}
export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf
store overlay
buildah info >/dev/null 2>&1 || store vfs

stand_in() {
  local made=$folder/stand-in container tool
  echo "the base cannot be pulled here: a stand-in takes its place" >&2
  rm -rf "$made"
  mkdir -p "$made/add/usr/local/bin" "$made/add/usr/local/etc" "$made/add/usr/local/lib/node_modules" "$made/add/etc/ssl/certs"
  debootstrap --variant=minbase bookworm "$made/debian" "$(mirror)" >"$folder/debootstrap.log" || {
    tail -5 "$folder/debootstrap.log" >&2
    exit 1
  }
  rm -rf "$made"/debian/var/cache/apt/* "$made"/debian/var/lib/apt/lists/* "$made"/debian/usr/share/{doc,man,locale}/*
  (
    cd "$made"
    npm pack --silent "node-linux-$(node -p process.arch)@24" npm@11 >/dev/null
    tar xzf node-linux-*.tgz -C add/usr/local --strip-components=1 package/bin/node
    tar xzf npm-11*.tgz -C add/usr/local/lib/node_modules
    mv add/usr/local/lib/node_modules/package add/usr/local/lib/node_modules/npm
  )
  for tool in npm npx; do
    chmod +x "$made/add/usr/local/lib/node_modules/npm/bin/$tool-cli.js"
    ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$made/add/usr/local/bin/$tool"
  done
  # a machine behind a proxy that signs for others knows whom to trust
  cp -L /etc/ssl/certs/ca-certificates.crt "$made/add/etc/ssl/certs/"
  echo cafile=/etc/ssl/certs/ca-certificates.crt >"$made/add/usr/local/etc/npmrc"
  container=$(buildah from scratch)
  buildah copy -q "$container" "$made/debian" / >/dev/null
  buildah copy -q "$container" "$made/add" / >/dev/null
  buildah run --isolation chroot "$container" -- sh -c 'groupadd -g 1000 node && useradd -u 1000 -g node -m node'
  buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd node "$container"
  buildah commit -q --rm "$container" "$base" >/dev/null
  rm -rf "$made"
}

# where apt gets its packages from
mirror() {
  awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true
}

if ! buildah inspect --type image "$base" >/dev/null 2>&1 && ! timeout 60 buildah pull -q "$base" >/dev/null 2>&1; then
  base=localhost/transship-base:stand-in
  buildah inspect --type image "$base" >/dev/null 2>&1 || stand_in
fi
cd "$checkout"
buildah bud --quiet --layers --pull-never --isolation chroot --format docker \
  --build-arg BASE="$base" \
  --build-arg VERSION="$(node -p 'require("./package.json").version')" \
  --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  --tag localhost/transship:built . >/dev/null

# another name than the last build's would make a second image of the layout
rm -rf "$folder/image"
buildah push -q --format oci localhost/transship:built "oci:$folder/image:built" >/dev/null
container=$(buildah from --pull-never localhost/transship:built)
cp "$(buildah mount "$container")/app/bundle/sbom.spdx.json" "$folder/sbom.spdx.json"
buildah rm "$container" >/dev/null
node docker/attest.ts "$folder/image" "$folder/sbom.spdx.json" "$folder/provenance.json" "$base" "$(buildah inspect --type image --format '{{.FromImageDigest}}' "$base")"
