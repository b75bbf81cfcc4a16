"""Images too large for memory: plan, work, merge, draw.

    plan    its windows, how its values become 8 bit and at which scale: plan.json
    work    each window's cells, settled within it, in a file of its own
    merge   which of them are the image's cells, exactly as app.windows and app.suppression decide
            in memory
    draw    their labels, strip by strip, into a tiled BigTIFF

Each stage does what is missing of it, so that all can be stopped and started again, and several
processes can share the work. In between all lies in a folder beside the label image (store.py),
which is removed when that is complete.
"""

STAGES = ("plan", "work", "merge", "draw")
