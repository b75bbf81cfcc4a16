"""Damaged files through the reader and through the command; those that fail are kept.

    python -m experiments fuzz [--reads 5000] [--commands 200] [--seed 0] [--keep FOLDER]

Each file is a valid one of tests/valid_files.py with damage that its number and the seed decide. A
file may be done, or refused with a sentence. It fails by any other exception, a crash, more than
SECONDS, more than MEMORY, or an output that is missing, broken or left over.

--reads: so many files are read, looked at through all windows and converted to 8 bits, in a process
of their own. --commands: so many are segmented by app.predict, BATCH files in a folder. The exit
status is 1 if a file fails.
"""

import faulthandler
import multiprocessing
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import psutil

from app import summary
from app.images import ImageError, read
from app.intensity import Curve
from app.names import LABEL_ENDING, shown, stem
from app.windows import windows
from evaluate.folders import read_labels
from evaluate.processes import Peak
from tests.valid_files import png_chunk, valid_files

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60  # for one file
MEMORY = 2**31  # bytes: what the reader may ask for, and what the command may have resident
BATCH = 20
# Tags for which tifffile has readers of their own: previews, ImageJ, UIC, LSM, NDPI, GPS ...
SPECIAL_TAGS = (
    *(301, 320, 330, 347, 700, 33471, 33560, 33628, 33629, 33630, 33631, 34118, 34361, 34377),
    *(34412, 34665, 34675, 34680, 34853, 37706, 42112, 50838, 50839, 51023, 51123, 65420, 65426),
)
EXTREMES = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 10**6, 2**31 - 1, 2**32 - 1, 2**63 - 1)


# Damage: each function changes `data` (bytearray) in place. rng: random.Random. donor: the bytes of
# another valid file.


def flip_bits(data, rng, donor):
    """A few bits anywhere are the other way round."""
    for _ in range(rng.choice((1, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data, rng, donor):
    """The end is missing."""
    del data[rng.randrange(len(data)) :]


def cut_out(data, rng, donor):
    """A few bytes in the middle are missing."""
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 4, 100))]


def splice(data, rng, donor):
    """A piece of another file in the place of one of this."""
    length, start = rng.choice((2, 12, 300)), rng.randrange(len(donor))
    piece, place = donor[start : start + length], rng.randrange(len(data))
    data[place : place + rng.choice((0, len(piece)))] = piece


def repeat(data, rng, donor):
    """A piece comes twice."""
    start, length = rng.randrange(len(data)), rng.choice((4, 12, 300))
    data[start:start] = data[start : start + length]


def extreme_integers(data, rng, donor):
    """Numbers in the first bytes, where headers are, become the least and greatest there are."""
    for _ in range(rng.choice((1, 2))):
        code = rng.choice(("B", "<H", ">H", "<I", ">I"))
        value = struct.pack("<Q", rng.choice(EXTREMES))[: struct.calcsize(code)]
        place = rng.randrange(min(len(data), rng.choice((64, 400))))
        data[place : place + len(value)] = value if "<" in code else value[::-1]


def tiff_fields(data, rng, donor):
    """A field of the first directory of a TIFF gets another tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 200 or data[:3] not in (b"II*", b"MM\0"):
        return extreme_integers(data, rng, donor)
    first = struct.unpack(order + "I", data[4:8])[0] % (len(data) - 100)
    count = struct.unpack(order + "H", data[first : first + 2])[0]
    place = first + 2 + 12 * rng.randrange(max(1, min(count, 40)))
    code, offset = rng.choice((("H", 0), ("H", 2), ("I", 4), ("I", 8), ("I", 8), ("H", 8)))
    usual = (rng.randrange(20), rng.randrange(len(data)), 2 ** rng.randrange(16))
    value = rng.choice(EXTREMES[:-1] + usual) % 256 ** struct.calcsize(code)
    if offset == 0 and rng.random() < 0.7:
        value = rng.choice(SPECIAL_TAGS)
    struct.pack_into(order + code, data, min(place + offset, len(data) - 4), value)


def digits(data, rng, donor):
    """A digit in the text of metadata, which most files have in front, becomes another number."""
    places = [i for i, byte in enumerate(data[:3000]) if 48 <= byte < 58]
    if places:
        place = rng.choice(places)
        data[place : place + rng.choice((0, 1))] = rng.choice((b"0", b"-", b"9999", b"9" * 12))


DAMAGE = (flip_bits, cut_short, cut_out, splice, repeat, extreme_integers, tiff_fields, digits)


def mutated(number, seed, files):
    """The damaged file of a number: (name of the valid one, bytes), the same for the same seed.

    files: {name: bytes} of the valid ones.
    """
    rng = random.Random(seed * 10**9 + number)
    name = sorted(files)[number % len(files)]
    data, donor = bytearray(files[name]), files[rng.choice(sorted(files))]
    for _ in range(rng.choice((1, 1, 2, 3))):
        if data:
            rng.choice(DAMAGE)(data, rng, donor)
    if data[:4] == b"\x89PNG" and rng.random() < 0.7:
        data = with_png_checksums(data)
    return name, bytes(data)


def with_png_checksums(data):
    """The same chunks with right checksums, so that the decoder goes on to their contents."""
    content, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunk = data[place + 4 : place + 8 + length]
        content += png_chunk(bytes(chunk[:4]), bytes(chunk[4:]))
        place += 12 + length
    return content


# The reader


def start_worker():
    """A pool of one process that reads files; nothing of this process counts as its own."""
    return multiprocessing.get_context("spawn").Pool(1, initializer=limit_memory)


def limit_memory():
    """Let this process have MEMORY more than now, and say on the screen where it crashes."""
    faulthandler.enable()
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome(path):
    """What came of a file: "done", "refused" or "failed", a text, and the peak of the memory."""
    result, text = "done", ""
    try:
        look(path)
    except ImageError as error:
        result, text = "failed" if "memory" in str(error) else "refused", str(error)
    except Exception:
        result, text = "failed", traceback.format_exc()
    return result, text, resident_peak("self")


def look(path):
    """Read an image and convert all its windows, as the segmenter does."""
    image, _ = read(path)
    curve = Curve.fit(image)
    for window in windows(*image.shape[:2], 512, 384):
        crop = curve(image[window.y0 : window.y1, window.x0 : window.x1])
        if crop.shape != (window.y1 - window.y0, window.x1 - window.x0, 3):
            raise AssertionError(f"{crop.shape} is not {window}")


def fuzz_reads(numbers, seed, keep):
    """Read the files of these numbers; returns the failures, a list of sentences.

    seed: of the damage. keep: the folder (Path) where files that fail stay.
    """
    files, failures, outcomes = valid_files(), [], Counter()
    worker, slowest, greediest = start_worker(), (0, ""), (0, "")
    for number in numbers:
        name, data = mutated(number, seed, files)
        path = keep / f"read {seed} {number} {name}"
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            result, text, peak = worker.apply_async(outcome, [path]).get(SECONDS)
        except multiprocessing.TimeoutError:
            result, text, peak = "failed", f"no answer in {SECONDS} s: it hangs or crashed", 0
        slowest = max(slowest, (time.perf_counter() - start, path.name))
        greediest = max(greediest, (peak, path.name))
        outcomes[result if result != "refused" else re.sub(r"\d+", "N", text)] += 1
        if result == "failed":
            failures.append(f"{path}: {text}")
            print(failures[-1], flush=True)
            worker.terminate()
            worker = start_worker()
        else:
            path.unlink()
    worker.terminate()
    print(
        f"{len(numbers)} files read, slowest {slowest[0]:.1f} s ({slowest[1]}), "
        f"peak {greediest[0] / 2**30:.2f} GiB ({greediest[1]})"
    )
    for text, count in outcomes.most_common():
        print(f"{count:6} {text}")
    return failures


# The command


class Run(NamedTuple):
    """How the command went: exit status, the lines it wrote, peak of its memory (bytes)."""

    status: int
    lines: list
    peak: int


def predict(*arguments, before=None):
    """Run app.predict to its end: a Run. before: called in the new process.

    subprocess.TimeoutExpired when it takes SECONDS for each of BATCH files.
    """
    command = [sys.executable, "-m", "app.predict", "--device", "cpu", *map(os.fspath, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=str(ROOT), preexec_fn=before, **pipes)
    memory = Peak(lambda: resident_peak(process.pid), 0.05)
    memory.start()
    try:
        output, _ = process.communicate(timeout=BATCH * SECONDS)
    finally:
        memory.cancel()
        process.kill()
    return Run(process.returncode, output.decode().splitlines(), memory.value or 0)


def resident_peak(process):
    """The most memory that a process ("self" or its number) has held so far, in bytes; 0 if gone.

    (getrusage would count what the process that started it had held.)
    """
    with suppress(OSError, AttributeError):
        status = Path(f"/proc/{process}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))
    return 0


def problems(run, inputs, outputs):
    """What is wrong with a Run on a folder of images that may be broken: a list of sentences.

    It is good when every image is done or has one line that says why not, nothing else was said,
    and the outputs are the label images of those that are done.
    """
    names = {shown(path.name): f"{stem(path.name)}{LABEL_ENDING}" for path in inputs.iterdir()}
    images = [path for path in inputs.iterdir() if path.is_symlink() or path.is_file()]
    done, refused, found = {}, set(), []
    # From the sum of all on, lines are on all images.
    for line in takewhile(lambda line: not re.match(r"\d+ of \d+ images? done", line), run.lines):
        match = re.match(r" *\d+/\d+ (.*?) +(\d+)×(\d+)(?: ×[\d.]+)? +[\d.]+ s +\d+ cells?", line)
        failure = re.match(r" *\d+/\d+ (.*): failed, (.*)", line)
        if match and match.group(1) in names:
            done[names[match.group(1)]] = match.group(3), match.group(2)
        elif failure and not re.match(
            r"\w+(Error|Exception|Interrupt)\b|.*memory", failure.group(2)
        ):
            refused.add(failure.group(1))
        elif line.split(": ")[0] not in names:  # not a remark on an image
            found.append(f"it says: {line}")
    if run.status != (1 if refused else 0) or len(done) + len(refused) != len(images):
        found.append(f"{len(done)} done, {len(refused)} refused, status {run.status}")
    if run.peak > MEMORY:
        found.append(f"peak {run.peak / 2**30:.2f} GiB")
    if set(os.listdir(str(outputs))) != {*done, summary.NAME}:
        found.append(f"outputs are {sorted(os.listdir(str(outputs)))}")
    for name, (height, width) in done.items():
        shape = read_labels(outputs / name).shape
        if shape != (int(height), int(width)):
            found.append(f"{name} has shape {shape}")
    return found


def fuzz_commands(numbers, seed, keep):
    """Segment the files of these numbers by the command; returns the failures, as `fuzz_reads`."""
    files, failures = valid_files(), []
    done, peak = 0, 0
    for start in range(0, len(numbers), BATCH):
        folder = Path(tempfile.mkdtemp(prefix=f"command {seed} {numbers[start]} ", dir=str(keep)))
        inputs, outputs = folder / "inputs", folder / "outputs"
        inputs.mkdir()
        for number in numbers[start : start + BATCH]:
            (inputs / f"{number}.png").write_bytes(mutated(number, seed, files)[1])
        try:
            run = predict(inputs, outputs)
            found = problems(run, inputs, outputs)
            done, peak = done + len(os.listdir(str(outputs))), max(peak, run.peak)
        except subprocess.TimeoutExpired as error:
            found = [str(error)]
        failures += [f"{folder}: {text}" for text in found]
        if not found:
            shutil.rmtree(str(folder))
    print(f"{len(numbers)} files through the command: {done} done, peak {peak / 2**30:.2f} GiB")
    print("\n".join(failures))
    return failures


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--reads", type=int, default=5000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where files that fail go; default: a new folder")


def run(options):
    """Try all files; the exit status is 1 where one fails."""
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    failures = fuzz_reads(range(options.reads), options.seed, keep)
    failures += fuzz_commands(range(10**8, 10**8 + options.commands), options.seed, keep)
    print(f"{len(failures)} failures" + (f", kept in {keep}" if failures else ""))
    return 1 if failures else 0
