"""State on disk. A process killed at any moment loses no more than its work since the last checkpoint.

A file is written under a temporary name, flushed to the disk and then renamed. So there is always the old or
the new one, and it is complete. No file can execute code when it is loaded: a checkpoint is written by
``torch.save`` and read with ``weights_only=True``; weights are safetensors
(https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zlib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from pgcourse.algorithms.protocols import Network

PATTERN = "checkpoint-*.pt"
MAX_CHECKPOINTS = 2  # in a folder: if the last one is damaged, there is one before it


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write a file completely or not at all.

    Raises:
        OSError: if it cannot be written (a full disk, no permission). What was there before is unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            reason = f"{error.strerror}; what was written before is complete"
            raise OSError(error.errno, reason, str(path)) from error
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut. Windows cannot open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Pickler(pickle.Pickler):
    """Pickle what ``torch.load(weights_only=True)`` reads, and arrays as tensors that share their memory."""

    def reducer_override(self, value: object):
        """Say how a value is written, or refuse it."""
        import torch

        if isinstance(value, np.ndarray):
            try:  # PyTorch has no read-only tensors and no negative strides: those arrays are copied
                return _as_array, (torch.from_numpy(np.require(value, requirements=["C", "W"])),)
            except (TypeError, ValueError) as error:
                raise ValueError(f"state must hold arrays of numbers, got {value.dtype}") from error
        if isinstance(value, torch.Tensor | torch.dtype | OrderedDict) or callable(value):  # by its name
            return NotImplemented
        allowed = "tensors, arrays, numbers, strings, None, and dicts, lists and tuples of these"
        raise ValueError(f"state must hold {allowed}, got {type(value).__name__}")


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    """Turn a tensor back into the array that it was. The only function that a checkpoint may name."""
    return tensor.numpy()


def save(path: Path, state: dict) -> None:
    """Write tensors, arrays, numbers, strings and None, in nested dicts, lists and tuples.

    Raises:
        ValueError: if ``state`` holds anything else.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer, pickle_module=SimpleNamespace(__name__=__name__, Pickler=_Pickler))
    buffer.write(_checksum(buffer.getbuffer()))
    atomic_write(path, buffer.getbuffer())


def load(path: Path) -> dict:
    """Return what ``save`` wrote, to the bit.

    Raises:
        ValueError: if the file is damaged or is something else.
    """
    import torch

    data = path.read_bytes()
    if _checksum(memoryview(data)[:-4]) != data[-4:]:
        raise ValueError(_damage(path, "its checksum is wrong"))
    try:
        with torch.serialization.safe_globals([_as_array]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # whose message says how to execute the file's code
        raise ValueError(_damage(path, "it holds something other than numbers and text")) from None


def _checksum(data: memoryview) -> bytes:
    """Return the CRC-32 of a checkpoint, which stands in its last four bytes. PyTorch itself checks none."""
    return zlib.crc32(data).to_bytes(4, "little")


def _damage(path: Path, reason: str) -> str:
    return f"{path} is damaged ({path.stat().st_size:,} bytes): {reason}"


def save_weights(path: Path, network: Network, dtype: torch.dtype | None = None) -> None:
    """Write the network's weights in half precision, or as another type of number."""
    import torch
    from safetensors.torch import save as to_bytes

    weights = network.state_dict().items()
    atomic_write(
        path, to_bytes({name: w.detach().to(dtype or torch.half).contiguous() for name, w in weights})
    )


def load_weights(path: Path, network: Network) -> None:
    """Give the network the weights in a file.

    Raises:
        ValueError: if the file is damaged, or holds weights of other names or shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(_damage(path, str(error))) from error
    wanted = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(name for name in wanted | got if wanted.get(name) != got.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{path} must hold weights {name} of shape {wanted.get(name)}, got {got.get(name)} "
            "(None: there is no such weight)"
        )
    network.load_state_dict(weights)


def latest(folder: Path) -> Path | None:
    """Return the last checkpoint in a folder, None if there is none."""
    return max(folder.glob(PATTERN), default=None)


def add(folder: Path, n_updates: int, state: dict) -> None:
    """Write a checkpoint, and remove all but the last two."""
    save(folder / f"checkpoint-{n_updates:09d}.pt", state)
    for old in sorted(folder.glob(PATTERN))[:-MAX_CHECKPOINTS]:
        old.unlink()


def clear(folder: Path) -> None:
    """Remove all checkpoints."""
    for path in folder.glob(PATTERN):
        path.unlink()
