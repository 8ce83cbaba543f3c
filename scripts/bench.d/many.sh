# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts/bench: a host with a thousand models that follow a repository.
# shellcheck shell=bash disable=SC2154
models=${MFS_MODELS:-1000}
rm -rf "$W/state" "$W/store" "$W/many"
mkdir -p "$W/many/src" "$W/many/tmpfs"
printf 'one\n' >"$W/many/src/a.txt"
modelpub pack --id det --version 1.0.0 --release 1 --key "$W/release.pem" --out "$W/many/b" "$W/many/src/a.txt" >/dev/null
modelpub init "$W/many/repo" --keys "$W/many/keys" --trust "$W/release.pub.pem" >>"$W/log" 2>&1
modelpub publish "$W/many/repo" "$W/many/b" --keys "$W/many/keys" >>"$W/log" 2>&1
{
	printf 'mount: %s\nstate: %s\nstore: %s\nrun: %s\nrepository: "file://%s"\ntrust: {root: "%s", keys: ["%s"]}\nupdate: {interval: 1h, probation: 0}\nmodels:\n' \
		"$W/mnt" "$W/state" "$W/store" "$W/run" "$W/many/repo" "$W/many/keys/root.json" "$W/release.pub.pem"
	for ((i = 0; i < models; i++)); do printf '  m%04d: {model_id: det, serve: paged}\n' "$i"; done
} >"$W/modelfs.yaml"
chmod 0711 "$W"
mfs mount
active() { find "$W/mnt/.active" -mindepth 1 -maxdepth 1 | wc -l; }
t0=$(date +%s%N)
for _ in $(seq 1200); do
	[ "$(active)" -lt "$models" ] || break
	sleep 0.5
done
say "$(active) of $models models active by themselves after $((($(date +%s%N) - t0) / 1000000000)) s"
pid=$(modelfs status -c "$W/modelfs.yaml" --json | jq -re .serve_pid)
modelfs check -c "$W/modelfs.yaml" >>"$W/log" 2>&1 || true
keeper=$(modelfs status -c "$W/modelfs.yaml" --json | jq -re .keeper_pid)
all=$(echo "$keeper" && pgrep -P "$keeper")
say "state written for it: $(awk '/^wchar/ {printf "%d", $2 / 1048576}' "/proc/$pid/io") MiB; threads: $(for p in $all; do awk '/^Threads:/ {print $2}' "/proc/$p/status"; done | xargs)"
for p in $all; do awk '/^Pss:/ {print $2}' "/proc/$p/smaps_rollup" 2>/dev/null || true; done | awk -v n="$models" \
	'{n1 += $1} END {printf "%-58s %6.1f   goal %-6s  (MiB of all processes, PSS, after a check that brought nothing)\n", "memory of a poll of " n " models", n1 / 1024, "< 100"}'
mount -t tmpfs modelfs-bench "$W/many/tmpfs"
for ((i = 0; i < models; i++)); do mkdir "$(printf '%s/m%04d' "$W/many/tmpfs" "$i")"; done
ms_of() { # of an ls -l, when no attribute of the one before counts any more
	local begun
	sleep 1.1
	begun=$(date +%s%N)
	ls -l "$1" >/dev/null || return 1
	awk -v ns=$(($(date +%s%N) - begun)) 'BEGIN {print ns / 1e6}'
}
unit=ms pair "ls -l of a thousand models, to tmpfs" "<= 3" "ms_of $W/mnt" "ms_of $W/many/tmpfs"
umount "$W/many/tmpfs"
mfs unmount
