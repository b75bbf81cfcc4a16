#!/bin/sh
# Finds the cells in a folder of microscopy images:
#
#   sh predict.sh [INPUTS [OUTPUTS]] [options of app.predict: see sh predict.sh --help]
#
# On a bare machine this first makes .venv beside itself; there, without INPUTS and without
# /workspace/inputs, a few sample images are written and segmented.
set -eu

if [ -n "${CPN_CONTAINER:-}" ]; then # set by the Dockerfile: everything is installed
    exec python3 -m app.predict "$@"
fi

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
unset PYTHONHOME PYTHONPATH # of another Python: nothing of it belongs into .venv
sh "$here/environment.sh" "$here/.venv" "$here/requirements.txt" "$here/evaluate/requirements.txt"

# `python -m` would look for `app` in the current folder first; this looks in the checkout.
module='import runpy, sys
sys.path[0], name = sys.argv[1:3]
del sys.argv[1:3]
runpy.run_module(name, run_name="__main__", alter_sys=True)'

if [ $# -eq 0 ] && [ ! -d /workspace/inputs ]; then
    echo "No folder given, so sample images are written to $here/samples/inputs"
    "$here/.venv/bin/python" -c "$module" "$here" app.samples "$here/samples/inputs"
    set -- "$here/samples/inputs" "$here/samples/outputs"
fi
exec "$here/.venv/bin/python" -c "$module" "$here" app.predict "$@"
