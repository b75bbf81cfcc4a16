#!/bin/sh
# Finds the cells in microscopy images:
#
#   sh predict.sh [INPUTS [OUTPUTS]] [options of app.predict: see sh predict.sh --help]
#
# On a bare machine this first makes .venv beside itself; there, without INPUTS and without
# /workspace/inputs, a few sample images are written and segmented.
set -eu

# Threads that wait must not spin: with one busy neighbour that takes many times as long.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

self=$0
while [ ! -e "$(dirname -- "$self")/environment.sh" ] && [ -h "$self" ]; do # a link to the checkout's
    target=$(readlink -- "$self")
    case $target in
    /*) self=$target ;;
    *) self=$(dirname -- "$self")/$target ;;
    esac
done
here=$(CDPATH='' cd -P -- "$(dirname -- "$self")" && pwd)

# `python -m` would look for `app` in the current folder first; this looks in the checkout.
module='import runpy, sys
sys.path[0], name = sys.argv[1:3]
del sys.argv[1:3]
runpy.run_module(name, run_name="__main__", alter_sys=True)'

if [ -n "${CPN_CONTAINER:-}" ]; then # set by the Dockerfile: everything is installed
    exec python3 -c "$module" "$here" app.predict "$@"
fi
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH # of another Python: nothing of it belongs into .venv

if [ $# -gt 0 ] && [ ! -e "$here/.venv/complete" ] && command -v python3 >/dev/null; then
    status=0 # any Python knows what is wrong with them
    python3 -c "$module" "$here" app.arguments "$@" || status=$?
    case $status in 0 | 2) exit "$status" ;; esac
fi
sh "$here/environment.sh" "$here/.venv" "$here/requirements.txt" "$here/evaluate/requirements.txt"

if [ $# -eq 0 ] && [ ! -d /workspace/inputs ]; then
    "$here/.venv/bin/python" -c "$module" "$here" app.samples "$here/samples/inputs"
    set -- "$here/samples/inputs" "$here/samples/outputs"
fi
exec "$here/.venv/bin/python" -c "$module" "$here" app.predict "$@"
