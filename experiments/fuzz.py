"""Mutated files through the reader and through the command; what it finds is kept.

    python -m experiments fuzz [--reads 5000] [--commands 200] [--seed 0] [--keep FOLDER]

Each file is a valid one (tests/valid_files.py) with damage drawn from the seed and its number.
--reads: read, looked at through all windows and converted, in a worker process that is started
again when it dies. --commands: segmented by app.predict, BATCH files in a folder. A file may be
done or refused with a sentence. A failure is: any other exception, a crash, more than SECONDS,
more than MEMORY, an output that is missing, broken or left over. Exit status 1 if there is one.
"""

import multiprocessing
import os
import random
import re
import resource
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil
import tifffile

from app.images import ImageError, output_name, read
from app.intensity import Curve
from app.predict import shown
from app.windows import windows
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


# Damage


def flip_bits(data, rng, donor):
    for _ in range(rng.choice((1, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data, rng, donor):
    del data[rng.randrange(len(data)) :]


def cut_out(data, rng, donor):
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 4, 100))]


def splice(data, rng, donor):
    """A piece of another file in the place of one of this."""
    length, start = rng.choice((2, 12, 300)), rng.randrange(len(donor))
    piece, place = donor[start : start + length], rng.randrange(len(data))
    data[place : place + rng.choice((0, len(piece)))] = piece


def repeat(data, rng, donor):
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
    """A number in the text of metadata, which begins or ends most files that have any."""
    places = [i for i, byte in enumerate(data[:3000]) if 48 <= byte < 58]
    if places:
        place = rng.choice(places)
        data[place : place + rng.choice((0, 1))] = rng.choice((b"0", b"-", b"9999", b"9" * 12))


DAMAGE = (flip_bits, cut_short, cut_out, splice, repeat, extreme_integers, tiff_fields, digits)


def mutated(number, seed, files):
    """(name, bytes) of the file of this number, the same whenever it is asked for."""
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


def work(pipe):
    """The worker: says of each file that it is told, what came of it and its own peak in bytes."""
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        pipe.send((*outcome(pipe.recv()), resident_peak("self")))


def outcome(path):
    """What came of a file: "done", "refused" or "failed", and a text."""
    try:
        look(path)
    except ImageError as error:
        return "failed" if "memory" in str(error) else "refused", str(error)
    except Exception:
        return "failed", traceback.format_exc()
    return "done", ""


def look(path):
    """Read an image and convert all its windows, as the segmenter does."""
    image, _ = read(path)
    curve = Curve.fit(image)
    for window in windows(*image.shape[:2], 512, 384):
        crop = curve(image[window.y0 : window.y1, window.x0 : window.x1])
        if crop.shape != (window.y1 - window.y0, window.x1 - window.x0, 3):
            raise AssertionError(f"{crop.shape} is not {window}")


class Worker:
    """A process of `work`, a new one where a file was the last that it could read."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")  # nothing of this process counts as its own
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def outcome(self, path):
        """As `outcome`, and the worker's peak in bytes so far; it is gone after a crash."""
        self.pipe.send(path)
        if not self.pipe.poll(SECONDS):
            return "failed", f"more than {SECONDS} s", 0
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            return "failed", f"crash, status {self.process.exitcode}", 0

    def stop(self):
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()


def fuzz_reads(numbers, seed, keep):
    """Read the files of these numbers; returns the failures, a list of sentences.

    seed: of the damage. keep: the folder (Path) where files that fail stay.
    """
    files, failures, outcomes = valid_files(), [], Counter()
    worker, slowest, greediest = Worker(), (0, ""), (0, "")
    for number in numbers:
        name, data = mutated(number, seed, files)
        path = keep / f"read {seed} {number} {name}"
        path.write_bytes(data)
        start = time.perf_counter()
        result, text, peak = worker.outcome(path)
        slowest = max(slowest, (time.perf_counter() - start, path.name))
        greediest = max(greediest, (peak, path.name))
        outcomes[result if result != "refused" else re.sub(r"\d+", "N", text)] += 1
        if result == "failed":
            failures.append(f"{path}: {text}")
            print(failures[-1], flush=True)
            worker.stop()
            worker = Worker()
        else:
            path.unlink()
    worker.stop()
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

    TimeoutError when it says nothing for SECONDS.
    """
    command = [sys.executable, "-m", "app.predict", "--device", "cpu", *map(os.fspath, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=str(ROOT), preexec_fn=before, **pipes)
    output, peak, heard = b"", 0, time.monotonic()
    while True:
        peak = max(peak, resident_peak(process.pid))
        if select.select([process.stdout], [], [], 0.05)[0]:
            piece = os.read(process.stdout.fileno(), 2**16)
            if not piece:
                break
            output, heard = output + piece, time.monotonic()
        elif time.monotonic() - heard > SECONDS:
            process.kill()
            raise TimeoutError(f"nothing for {SECONDS} s after {output[-300:]}")
    process.stdout.close()
    return Run(process.wait(), output.decode().splitlines(), peak)


def resident_peak(process):
    """The most memory that a process ("self" or its number) has held so far, in bytes; 0 if gone.

    (getrusage would count what the process that started it had held.)
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match.group(1)) * 1024 if match else 0


def problems(run, inputs, outputs):
    """What is wrong with a run on a folder of images that may be broken: a list of sentences.

    Every image is done or has one line that says why not, there is nothing else on the screen,
    and the outputs are the label images of those that are done.
    """
    names = {shown(path): output_name(path) for path in inputs.iterdir()}
    images = [path for path in inputs.iterdir() if path.is_symlink() or path.is_file()]
    done, refused, found = {}, set(), []
    for line in run.lines[:-1]:
        match = re.match(r"\d+/\d+ (.*) (\d+)×(\d+) [\d.]+ s \d+ cells?", line)
        failure = re.match(r"\d+/\d+ (.*): failed, (.*)", line)
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
    if set(os.listdir(str(outputs))) != set(done):
        found.append(f"outputs are {sorted(os.listdir(str(outputs)))}")
    for name, (height, width) in done.items():
        with tifffile.TiffFile(str(outputs / name)) as tif:  # imread takes "*" for a pattern
            shape = tif.asarray().shape
        if shape != (int(height), int(width)):
            found.append(f"{name} has shape {shape}")
    return found


def fuzz_commands(numbers, seed, keep):
    """Segment the files of these numbers by the command; returns the failures as sentences."""
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
        except TimeoutError as error:
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
