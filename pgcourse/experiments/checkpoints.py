"""State on disk, so that a kill at any moment costs no more than the work since the last checkpoint.

A file is written beside its place, flushed to the disk, and then renamed: at every moment there is the old one or the new one, whole.
Arrays go into safetensors (https://github.com/huggingface/safetensors), which, unlike a pickle, cannot hold code; all else into its header.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

KEPT = 2  # checkpoints in a folder: should the last be damaged from outside, there is one before it


def write(path: Path, data: bytes) -> None:
    """Put data in a file, whole or not at all.

    Raises:
        OSError: if that cannot be done (a full disk, no permission); what was there before still is.
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
            raise OSError(
                error.errno, f"{error.strerror}; what was written before is whole", str(path)
            ) from error
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # so that the new name survives a power cut; Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def save(path: Path, state: dict) -> None:
    """Write nested dicts and lists of tensors, arrays, numbers, strings and None.

    Raises:
        ValueError: if ``state`` holds anything else.
        OSError: as ``write``.
    """
    import torch
    from safetensors.torch import save as to_bytes

    arrays: dict[str, torch.Tensor] = {}
    header = json.dumps(_without_arrays(state, arrays, "state"))
    try:
        data = to_bytes(arrays, {"state": header})
    except KeyError as error:
        raise ValueError(f"state must hold arrays of a type that safetensors has, got {error}") from error
    write(path, data)


def load(path: Path) -> dict:
    """Return what ``save`` wrote.

    Raises:
        ValueError: if the file is damaged or is something else.
        OSError: if it cannot be read.
    """
    header, arrays = _read(path)
    try:
        return _with_arrays(json.loads(header["state"]), arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of pgcourse: {type(error).__name__}: {error}") from error


def save_weights(path: Path, network, dtype=None) -> None:
    """Write the network's weights in half precision, or another; as little as a policy that plays the same needs."""
    import torch
    from safetensors.torch import save as to_bytes

    write(
        path,
        to_bytes(
            {
                name: w.detach().to(dtype or torch.half).contiguous()
                for name, w in network.state_dict().items()
            }
        ),
    )


def load_weights(path: Path, network) -> None:
    """Give the network the weights in a file.

    Raises:
        ValueError: if the file is damaged, or holds weights of other names or shapes.
        OSError: if it cannot be read.
    """
    _, weights = _read(path)
    wanted = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(name for name in wanted | got if wanted.get(name) != got.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{path} must hold weights {name} of shape {wanted.get(name)}, got {got.get(name)} (None: there is no such weight)"
        )
    network.load_state_dict(weights)


def latest(folder: Path) -> Path | None:
    """Return the last checkpoint in a folder, None if there is none."""
    return max(folder.glob("checkpoint-*.safetensors"), default=None)


def add(folder: Path, n_updates: int, state: dict) -> None:
    """Write a checkpoint, and remove all but the last two."""
    save(folder / f"checkpoint-{n_updates:09d}.safetensors", state)
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT]:
        old.unlink()


def clear(folder: Path) -> None:
    """Remove all checkpoints."""
    for path in folder.glob("checkpoint-*.safetensors"):
        path.unlink()


def _read(path: Path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({path.stat().st_size:,} bytes): {error}") from error


def _without_arrays(state: Any, arrays: dict, where: str) -> Any:
    """Return state as JSON can hold it, its arrays moved to ``arrays``, where they are named by their place."""
    import torch

    if isinstance(state, torch.Tensor | np.ndarray):
        name = f"{len(arrays)} {where}"  # numbered, for the key "a.b" is not the key "b" in "a"
        try:  # copies, for safetensors refuses memory that is shared, and PyTorch arrays that are read-only or run backwards
            if isinstance(state, torch.Tensor):
                arrays[name] = state.detach().clone(memory_format=torch.contiguous_format)
                return {"tensor": name}
            arrays[name] = torch.from_numpy(np.array(state, order="C"))
            return {"array": name}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{where} must hold numbers of a type that PyTorch has, got {state.dtype}"
            ) from error
    if isinstance(state, dict):  # as pairs, because JSON would turn keys into strings
        if wrong := [key for key in state if not isinstance(key, str | int)]:
            raise ValueError(f"keys of {where} must be strings or integers, got {wrong[0]!r}")
        return {
            "items": [[key, _without_arrays(value, arrays, f"{where}.{key}")] for key, value in state.items()]
        }
    if isinstance(state, list | tuple):
        return [_without_arrays(value, arrays, f"{where}.{i}") for i, value in enumerate(state)]
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise ValueError(
        f"{where} must be a dict, list, tensor, array, number, string or None, got {type(state).__name__}"
    )


def _with_arrays(state: Any, arrays: dict) -> Any:
    if isinstance(state, list):
        return [_with_arrays(value, arrays) for value in state]
    if not isinstance(state, dict):
        return state
    if "items" in state:
        return {key: _with_arrays(value, arrays) for key, value in state["items"]}
    return arrays[state["tensor"]] if "tensor" in state else arrays[state["array"]].numpy()
