#!/bin/sh
# Makes a Python environment, once:  sh environment.sh FOLDER REQUIREMENTS...
#
# Does nothing where FOLDER is complete for just these requirements. Anything else there is replaced
# when the new one is complete (environment.py).
set -eu

fail() {
    echo "$1" >&2
    exit 2
}

folder=$1
shift
wanted=$(cat "$@" | cksum)
if [ -x "$folder/bin/python" ] && [ "$(cat "$folder/complete" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

known='import sys; sys.exit(sys.version_info[:2] != (3, 7) and not (3, 9) <= sys.version_info[:2] <= (3, 14))'
python=
without_venv=
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.7 python; do
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
    other=$(python3 -c 'import sys; print(" (python3 is Python %d.%d)" % sys.version_info[:2])' 2>/dev/null) || other=
    fail "No Python 3.7 or 3.9 to 3.14 was found$other: install one of them and start again."
fi
exec "$python" "$(dirname -- "$0")/environment.py" "$folder" "$wanted" "$@"
