"""The child process of `heaps`. It runs as a file, imports nothing of the project, and is ready within 0.2 s.

Arguments: FILE DATASET SECONDS BYTES. It reads pairs (first row, last row + 1) of little-endian int64 from the standard
input. For each row of a pair it writes the row's length and its bytes. A row that h5py refuses ends the pair: -1 minus
the length of a message in UTF-8, and the message. A row that takes more than SECONDS of the processor, or more memory
than BYTES, ends the process.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys

import h5py


def _answer(dataset: h5py.Dataset, row: int) -> tuple[int, bytes]:
    """Length and bytes of a row; or -1 minus the length of a message, and the message."""
    try:
        value = dataset[row]
        data = value if isinstance(value, bytes) else value.tobytes()
    except Exception as error:  # whatever h5py raises for a damaged file, the parent tells
        data = f"{error}".encode()
        return -1 - len(data), data
    return len(data), data


def main() -> None:
    """Serve rows until the standard input ends."""
    path, name, seconds, size = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (int(size), int(size)))
    # A handler of Python's would wait for libhdf5 to return. The default action ends the process at once.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    signal.setitimer(signal.ITIMER_PROF, float(seconds))
    dataset = h5py.File(path, "r")[name]
    while len(request := requests.read(16)) == 16:
        for row in range(*struct.unpack("<qq", request)):
            signal.setitimer(signal.ITIMER_PROF, float(seconds))
            head, data = _answer(dataset, row)
            answers.write(struct.pack("<q", head) + data)
            if head < 0:
                break
        answers.flush()


if __name__ == "__main__":
    main()
