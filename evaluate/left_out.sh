#!/bin/sh
# What F1 loses on images of a kind that training never saw:
#
#     sh evaluate/left_out.sh DATA OUT STEPS SOURCE...
#
# DATA: a folder with catalog.csv. Two networks are trained from scratch for STEPS, alike but that
# one never sees the SOURCEs; both are scored on all images of these, by the organisers' rules. In
# the rows "train" the other network is flattered: it has learned from these very images.
# Started again, it goes on with what OUT holds.
set -eu
unset PYTHONHOME PYTHONPATH CDPATH
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
absolute() {
    case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac
}
data=$(absolute "$1")
out=$(absolute "$2")
steps=$3
shift 3
cd -- "$root"

sh environment.sh "$PWD/.venv" requirements.txt evaluate/requirements.txt  # as predict.sh has it
python=.venv/bin/python
mkdir -p "$out"

# Their images and truth, from both splits.
if [ ! -d "$out/sources" ]; then
    rm -rf "$out/sources.part"
    mkdir -p "$out/sources.part/images" "$out/sources.part/truth"
    echo "name,group" > "$out/sources.part/groups.csv"
    for split in train val; do
        rm -rf "$out/$split"
        $python -m app.training split --data "$data" --split $split --group source --out "$out/$split"
        tail -n +2 "$out/$split/groups.csv" | cut -d, -f1,2 | sed "s/\$/ $split/" \
            >> "$out/sources.part/groups.csv"
        for source in "$@"; do
            for kind in images truth; do
                find "$out/$split/$kind" -name "${source}__*" \
                    -exec cp {} "$out/sources.part/$kind" \;
            done
        done
    done
    mv "$out/sources.part" "$out/sources"
fi

# compare NAME [--without SOURCE...]: train a network, predict, score
compare() {
    name=$1
    shift
    [ -f "$out/$name.done" ] || $python -m app.training --data "$data" --out "$out/$name" \
        --from-scratch --steps "$steps" --seed 5 --no-giou "$@" \
        --set 'crops=[[128,16],[256,4]]' reference_batch=16 freeze_norms=0.2 \
        validation_minutes=1000
    touch "$out/$name.done"
    sh predict.sh "$out/sources/images" "$out/labels/$name" --weights "$out/$name/weights.safetensors"
    echo "$name:"
    $python -m evaluate score --rules official --groups "$out/sources/groups.csv" \
        --truth "$out/sources/truth" --labels "$out/labels/$name"
}
compare with
compare without --without "$@"
