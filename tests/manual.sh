#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the programs say of themselves, what the manual says, and what completion offers is the same: every
# command and option, every key of the configuration with its default, every outcome.
set -eu
# shellcheck source=../scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
B=${MFS_BUILD:-$top/build}
if [ ! -x "$B/modelfs" ] || [ ! -x "$B/modelpub" ]; then echo "SKIP: not built: $B"; exit 77; fi
command -v openssl >/dev/null || { echo "SKIP: openssl is not installed"; exit 77; }
work manual
bad=0
man=$top/man

# same WHAT LEFT RIGHT: two sorted lists of words are equal; each word that stands in one alone is said.
same() {
	local word
	while read -r word; do
		[ -z "$word" ] || { echo "manual: $1: '$word' is missing in $3"; bad=1; }
	done < <(comm -23 "$work/a" "$work/b")
	while read -r word; do
		[ -z "$word" ] || { echo "manual: $1: '$word' is missing in $2"; bad=1; }
	done < <(comm -13 "$work/a" "$work/b")
}
a() { sort -u >"$work/a"; }
b() { sort -u >"$work/b"; }
# Options of a text: -f, --json, and -- alone.
options() { grep -oE -- '(^|[^[:alnum:]_-])--?[a-z][a-z-]*|(^| )--( |$)' | sed 's/^[^-]*//; s/ *$//'; }
# The same of mdoc: ".Fl c", "Fl -json" and "Fl -" of .It, .Op and running text.
fl() { tr '\n' ' ' | sed -E 's/(Fl -[a-z-]+) \| -/\1 Fl -/g' | grep -oE -- '(^|[ .])Fl -?[a-z-]*' | sed -E 's/.*Fl /-/'; }

# ---- modelfs ---------------------------------------------------------------------------------------

section() { awk -v n="$1" '$1 == ".Sh" {on = substr($0, 5) == n; next} on' "$2"; } # SECTION FILE
"$B/modelfs" --help | awk '/^  [a-z]/ {print $1}' >"$work/commands"
a <"$work/commands"
section COMMANDS "$man/modelfs.8" | awk '$1 == ".It" && $2 == "Cm" {print $3}' | b
same "commands of modelfs" "modelfs --help" "modelfs(8), COMMANDS"
section SYNOPSIS "$man/modelfs.8" | awk '$1 == ".Nm" {new = 1; next} new && $1 == ".Cm" {new = 0; for (i = 2; i <= NF; i++) if ($i != "|") print $i}' | b
same "commands of modelfs" "modelfs --help" "modelfs(8), SYNOPSIS"
sed -n '/compgen -W "mount/,/--help/p' "$top/contrib/completion/modelfs" | tr -c 'a-z-' '\n' | grep -x '[a-z]*' | grep -vx 'mapfile\|compgen\|cur' | b
same "commands of modelfs" "modelfs --help" "contrib/completion/modelfs"

while read -r command; do
	"$B/modelfs" "$command" --help >"$work/help" || { echo "manual: modelfs $command --help fails"; bad=1; }
	grep -q "^usage: modelfs $command " "$work/help" || { echo "manual: modelfs $command --help has no usage"; bad=1; }
	head -n 1 "$work/help" | options | a
	section SYNOPSIS "$man/modelfs.8" | awk -v c="$command" '$1 == ".Nm" {on = 0; new = 1; next}
		new && $1 == ".Cm" {new = 0; for (i = 2; i <= NF; i++) on = on || $i == c} on' | fl | b
	same "options of modelfs $command" "modelfs $command --help" "modelfs(8), SYNOPSIS"
	grep -vx -- '-c' "$work/a" >"$work/c" || true
	mv "$work/c" "$work/a"
	section COMMANDS "$man/modelfs.8" | awk -v c="$command" '$1 == ".It" && $2 == "Cm" && $3 == c' | fl | b
	same "options of modelfs $command" "modelfs $command --help" "modelfs(8), COMMANDS"
	# An option that completion offers is taken: it gets as far as the arguments.
	awk -v c="$command" '{split($0, side, "[)]")} side[1] ~ "(^|[ \t|])" c "([ |]|$)" && match($0, /options="[^"]*"/) {
		print substr($0, RSTART + 9, RLENGTH - 10)}' "$top/contrib/completion/modelfs" | tr ' ' '\n' |
		grep -vx -- '--help\|-c\|--config\|--follow\|--output' | b
	grep -vx -- '--' "$work/a" >"$work/c" || true
	mv "$work/c" "$work/a"
	same "options of modelfs $command" "modelfs $command --help" "contrib/completion/modelfs"
done <"$work/commands"

# ---- modelpub --------------------------------------------------------------------------------------

"$B/modelpub" --help | awk '/^  [a-z]/ {print $1}' >"$work/commands"
a <"$work/commands"
awk '$1 == ".Ss" && $2 ~ /^[a-z]+$/ {print $2}' "$man/modelpub.1" | b
same "commands of modelpub" "modelpub --help" "modelpub(1)"
section SYNOPSIS "$man/modelpub.1" | awk '$1 == ".Nm" {new = 1; next} new && $1 == ".Cm" {print $2} {new = 0}' | b
same "commands of modelpub" "modelpub --help" "modelpub(1), SYNOPSIS"
sed -n '/compgen -W "key pack/,/--help/p' "$top/contrib/completion/modelpub" | tr -c 'a-z-' '\n' | grep -x '[a-z]*' | grep -vx 'mapfile\|compgen\|cur' | b
same "commands of modelpub" "modelpub --help" "contrib/completion/modelpub"

awk '$1 == ".Sh" {on = $2 == "REPOSITORY"} $1 == ".Ss" {on = 0} on && $1 == ".It"' "$man/modelpub.1" | fl | sort -u >"$work/shared"
: >"$work/all"
while read -r command; do
	"$B/modelpub" "$command" --help >"$work/help" || { echo "manual: modelpub $command --help fails"; bad=1; }
	options <"$work/help" | grep -vx -- '--help\|--' | sort -u >"$work/given"
	awk -v c="$command" '$1 ~ /^[.]S[sh]$/ {on = $1 == ".Ss" && $2 == c} on' "$man/modelpub.1" >"$work/part"
	sed -n 's/^  \(--[a-z-]*\).*/\1/p' "$work/help" | grep -vx -- '--help' | sort -u >"$work/listed"
	cat "$work/listed" >>"$work/all"
	fl <"$work/part" | sort -u >"$work/there"
	while read -r option; do
		grep -qx -- "$option" "$work/there" || grep -qx -- "$option" "$work/shared" ||
			{ echo "manual: modelpub $command: '$option' is missing in modelpub(1)"; bad=1; }
	done <"$work/listed"
	# A synopsis may show an option that only a paragraph of the page explains, never one that is not there.
	while read -r option; do
		grep -qx -- "$option" "$work/listed" || { echo "manual: modelpub $command: '$option' of modelpub(1) is missing in its --help"; bad=1; }
	done < <({ grep '^\.It' "$work/part" || true; section SYNOPSIS "$man/modelpub.1" | awk -v c="$command" '$1 == ".Nm" {on = 0; new = 1; next}
		new && $1 == ".Cm" {on = $2 == c} {new = 0} on'; } | fl | grep -vx -- '--help\|--version' || true)
done <"$work/commands"
a <"$work/shared"
sort -u "$work/all" | comm -12 - "$work/shared" | b
same "shared options of modelpub" "modelpub(1), REPOSITORY" "any --help"

# ---- the configuration -------------------------------------------------------------------------------

# Keys of the parser: "table key".
awk '/^static const struct mfs_field .*_fields\[\] = [{]/ {t = $5; sub(/_fields.*/, "", t)}
	/^[}]/ {t = ""} t != "" && match($0, /^\t[{] "[a-z0-9_]+"/) {print t, substr($0, RSTART + 4, RLENGTH - 5)}' \
	"$top"/fs/config/config_*.c >"$work/parser"
# Items of modelfs.yaml(5): "section key [default]".
awk '$1 == ".Sh" {s = $2} $1 == ".Ss" {s = $2 == "Health" ? "HEALTH" : $2} $1 == ".Bl" {d++} $1 == ".El" {d--}
	$1 == ".It" && $2 == "Cm" && s ~ /^(KEYS|TRUST|REPOSITORIES|DEVICE|UPDATE|MODELS|HEALTH)$/ {
		where = s == "UPDATE" && d == 2 ? "CONDITIONS" : s
		n = 0
		for (i = 3; i <= NF && $i != ":" && $i !~ /^(Ar|Li|No)$/; i++)
			if ($i != ",") { k = $i; sub(/^health[.]/, "", k); key[++n] = k }
		v = ""
		for (; i < NF; i++)
			if ($i == "default" && ($(i + 1) ~ /^(Li|Pa|0)$/)) v = $(i + 1) == "0" ? 0 : $(i + 2)
		for (i = 1; i <= n; i++) print where, key[i], v
	}' "$man/modelfs.yaml.5" >"$work/page"
for pair in top=KEYS trust=TRUST repository=REPOSITORIES device=DEVICE update=UPDATE conditions=CONDITIONS model=MODELS health=HEALTH; do
	table=${pair%=*} part=${pair#*=}
	awk -v t="$table" '$1 == t && !(t == "model" && ($2 == "health" || $2 == "on_change" || $2 == "on_reject")) {print $2}' "$work/parser" | a
	awk -v p="$part" '$1 == p && $2 != "on_change" && $2 != "on_reject" {print $2}' "$work/page" | b
	[ -s "$work/a" ] || { echo "manual: no table $table in fs/config"; bad=1; }
	same "keys of the configuration ($table)" "the parser" "modelfs.yaml(5), $part"
done
for key in on_change on_reject; do
	grep -qx "model $key" "$work/parser" && grep -q "^HEALTH $key" "$work/page" || { echo "manual: key $key"; bad=1; }
done
# Mappings that stand in one line of the page: {url: URL, only: true}.
while read -r table key; do
	case $table in
	top | trust | repository | device | update | conditions | model | health) continue ;;
	key) part=TRUST ;;
	auth | tls | mirror) part=REPOSITORIES ;;
	telemetry | telemetry_tls) part=KEYS ;;
	*) echo "manual: table $table of fs/config is unknown here"; bad=1; continue ;;
	esac
	awk -v p="$part" '$1 == ".Sh" || $1 == ".Ss" {on = $2 == p} on' "$man/modelfs.yaml.5" | grep -qE "[{ ]${key}[:,}]" ||
		{ echo "manual: key '$key' ($table) is missing in modelfs.yaml(5), $part"; bad=1; }
done <"$work/parser"

# Defaults: of what `config show` has in effect when nothing is said.
openssl genpkey -algorithm ed25519 2>/dev/null | openssl pkey -pubout -out "$work/k.pub.pem" 2>/dev/null
printf 'trust: {keys: [k.pub.pem]}\nmodels: {m: {}}\n' >"$work/c.yaml"
"$B/modelfs" config show -c "$work/c.yaml" | tr -d '"' | awk '
	{ match($0, /^ */); depth = RLENGTH / 2; k = $1; sub(/:$/, "", k); path[depth] = k }
	NF == 2 && depth == 0 {print "KEYS", k, $2}
	NF == 2 && depth == 1 {print toupper(path[0]), k, $2}
	NF == 2 && depth == 2 && path[0] == "update" {print "CONDITIONS", k, $2}
	NF == 2 && depth == 2 && path[0] == "models" {print "MODELS", k, $2}
	NF == 2 && depth == 3 && path[0] == "models" {print "HEALTH", k, $2}' >"$work/shown"
n=0
while read -r part key value; do
	[ -n "$value" ] || continue
	shown=$(awk -v p="$part" -v k="$key" '$1 == p && $2 == k {print $3}' "$work/shown")
	[ -n "$shown" ] || continue
	[ "$key" != run ] || shown=/run/modelfs/
	[ "$key" != mode ] || value=0444 # of a model without a group and a key
	[ "$key" != key ] || shown=${shown#file:/var/lib/modelfs/}
	[ "$shown" != 0s ] || shown=0
	n=$((n + 1))
	[ "$shown" = "$value" ] || { echo "manual: $key: default $value in modelfs.yaml(5), $shown in effect"; bad=1; }
done <"$work/page"
[ "$n" -ge 25 ] || { echo "manual: only $n defaults were compared"; bad=1; }

# ---- outcomes ----------------------------------------------------------------------------------------

awk -F '[(,)]' '/^\tX\([A-Z_]+, [0-9]+, "/ {gsub(/[ "]/, "", $3); gsub(/[ "]/, "", $4); gsub(/ /, "", $5); print $3 "/" $4 "/" tolower($5)}' "$top/common/error.h" | a
section OUTCOMES "$man/modelfs.8" | awk '$1 == ".It" && $3 == "Ta" {print $2 "/" $4 "/" $6}' | b
[ "$(wc -l <"$work/a")" -ge 30 ] || { echo "manual: outcomes of common/error.h were not found"; bad=1; }
same "outcomes" "common/error.h" "modelfs(8), OUTCOMES"
cut -d / -f 2 "$work/a" >"$work/names"
a <"$work/names"
section OUTCOMES "$man/modelfs.8" | awk '$1 == ".It" && $2 == "Li" {print $3}' | b
same "meanings of outcomes" "common/error.h" "modelfs(8), OUTCOMES"
exit "$bad"
