# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # of tests/lib/e2e.sh
# Sourced after e2e.sh by tests in which time passes, or a clock is wrong: modelfs and modelpub are copies with a wall
# clock of their own each (tests/lib/shiftclock.c), which can be set while they run. The host's clock stays as it is.
need_program shiftclock-modelfs
need_program shiftclock-modelpub
need_program modelfs-fetch

# clock PROGRAM SECONDS: how far its wall clock is ahead of the host's, from now on.
clock() {
	local n=$2 bytes='' i
	for i in 0 8 16 24 32 40 48 56; do
		bytes+=$(printf '\\x%02x' $(((n >> i) & 255)))
	done
	# In place: it is mapped.
	printf '%b' "$bytes" | dd of="$W/bin/$1.clock" bs=8 conv=notrunc status=none
}
mkdir "$W/bin"
for program in modelfs modelpub; do
	cp "$B/shiftclock-$program" "$W/bin/$program"
	clock "$program" 0
done
cp "$B/modelfs-fetch" "$W/bin/"
modelfs=$W/bin/modelfs modelpub=$W/bin/modelpub
hour=3600 day=86400
