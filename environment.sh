#!/bin/sh
# Makes a Python environment, once:  sh environment.sh FOLDER REQUIREMENTS...
#
# Does nothing where FOLDER is complete for just these requirements. Anything else there, such as
# what an interrupted run left, is replaced.
set -eu

fail() {
    echo "$1" >&2
    exit 2
}

folder=$1
shift
marker=$folder/complete
wanted=$(cat "$@" | cksum)
if [ -x "$folder/bin/python" ] && [ "$(cat "$marker" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

known='import sys; sys.exit(sys.version_info[:2] not in [(3, 7), (3, 10), (3, 11), (3, 12), (3, 13)])'
python=
without_venv=
for candidate in python3 python3.13 python3.12 python3.11 python3.10 python3.7 python; do
    "$candidate" -c "$known" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
    without_venv=$candidate
done
if [ -z "$python" ] && [ -n "$without_venv" ]; then
    fail "$without_venv cannot make environments: install its venv module (Debian and Ubuntu: apt install python3-venv) and start again."
elif [ -z "$python" ]; then
    fail "No Python 3.7 or 3.10 to 3.13 was found: install one of them and start again."
fi

echo "Making the Python environment $folder (once; this downloads PyTorch and takes minutes)" >&2
for file do
    shift
    set -- "$@" -r "$file"
done
rm -f "$marker"  # first: what follows may be interrupted anywhere
"$python" -m venv --clear "$folder" >&2 ||
    fail "The environment $folder could not be made: the lines above say why."
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" >&2 ||
    fail "The environment $folder is not complete: the lines above say why; start again when that is mended."
echo "$wanted" >"$marker"
