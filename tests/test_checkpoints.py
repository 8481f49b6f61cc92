"""Against the types themselves, other formats in a checkpoint's place, real kills and really full disks."""

import errno
import itertools
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.torch import save_file

from pgcourse.experiments import checkpoints

reproducible = settings(derandomize=True, deadline=None, max_examples=50)
unix = pytest.mark.skipif(
    os.name != "posix", reason="needs SIGKILL and limits on resources, which Windows has not"
)

DTYPES = [bool, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
DTYPES += [np.float16, np.float32, np.float64, np.complex64, np.complex128]
array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**63, 2**128)
    | st.floats()
    | st.text()
    | array
    | array.map(torch.from_numpy)
)
nested = st.recursive(
    leaf,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inside)
    ),
)
state = st.dictionaries(st.text(max_size=3) | st.integers(), nested)


def same(a, b):
    """Whether two states are equal to the bit and of the same types throughout."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return [(type(key), key) for key in a] == [(type(key), key) for key in b] and all(
            same(a[key], b[key]) for key in a
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return same(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return repr(a) == repr(b)  # NaN, −0


def round_trip(state, path):
    checkpoints.save(path, state)
    return checkpoints.load(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints") / "state.pt"


@reproducible
@given(state=state)
def test_a_state_comes_back_as_it_was(path, state):
    assert same(round_trip(state, path), state)


def test_keys_that_look_alike_are_distinguished(path):
    one, two = torch.ones(1), torch.full((1,), 2.0)
    for alike in (
        {"a.b": one, "a": {"b": two}},
        {0: one, "0": two},
        {"a": [one], "a.0": two},
        {"tensor": "items", "items": {"array": one}},
    ):
        assert same(round_trip(alike, path), alike)


def test_arrays_that_share_memory_or_are_not_contiguous_are_saved(path):
    w, frozen = torch.arange(6.0), np.arange(3)
    frozen.flags.writeable = False
    odd = {
        "w": w,
        "tied": w,
        "part": w[1:3],
        "turned": w.reshape(2, 3).T,
        "repeated": w[:1].expand(4),
        "learnt": torch.nn.Parameter(w),
    }
    odd |= {"frozen": frozen, "backwards": np.arange(3)[::-1], "column": np.eye(3)[:, 1]}
    loaded = round_trip(odd, path)
    assert loaded.keys() == odd.keys()
    for name, value in odd.items():
        got, wanted = (x.detach() if isinstance(x, torch.Tensor) else x for x in (loaded[name], value))
        np.testing.assert_array_equal(got, wanted, strict=True)


def test_a_loaded_array_can_be_written_to(path):
    array = round_trip({"a": np.arange(3)}, path)["a"]
    array[0] = 7
    assert array.tolist() == [7, 1, 2]


def test_a_generator_continues_where_it_was(path):
    rng, again = np.random.default_rng(1), np.random.default_rng(2)
    rng.random(5)
    again.bit_generator.state = round_trip(rng.bit_generator.state, path)
    assert rng.bit_generator.state["state"]["state"] > 2**64  # too big for an array
    assert (rng.random(9) == again.random(9)).all()
    assert same(round_trip(np.random.MT19937(3).state, path), np.random.MT19937(3).state)  # with an array


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD])
def test_an_optimizer_continues_where_it_was(path, optimizer):
    def steps(w, opt, n):
        for _ in range(n):
            opt.zero_grad()
            (w**4).sum().backward()
            opt.step()

    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    opt = optimizer([w], lr=0.01)
    steps(w, opt, 3)
    loaded = round_trip({"w": w, "opt": opt.state_dict()}, path)
    again = torch.nn.Parameter(loaded["w"])
    opt_again = optimizer([again], lr=0.5)
    opt_again.load_state_dict(loaded["opt"])
    steps(w, opt, 3)
    steps(again, opt_again, 3)
    assert same(w.detach(), again.detach())
    assert same(opt_again.state_dict()["state"], opt.state_dict()["state"])


@pytest.mark.parametrize(
    ("state", "got"),
    [
        ({"a": object()}, "object"),
        ({"a": [{"b": np.complex64(1)}]}, "complex64"),
        ({"a": {np.datetime64(1, "s"): 0}}, "datetime64"),
        ({"a": torch.Size([1])}, "Size"),
    ],
)
def test_types_that_could_not_be_loaded_are_named_and_nothing_is_written(tmp_path, state, got):
    allowed = "tensors, arrays, numbers, strings, None, and dicts, lists and tuples of these"
    with pytest.raises(ValueError, match=f"^state must hold {allowed}, got {got}$"):
        checkpoints.save(tmp_path / "state.pt", state)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_come_back_as_those_of_python(path):
    """Such as a learning rate, which an optimiser keeps as it gets it."""
    numbers = {"a": np.float32(0.1), "b": [np.int64(-7), np.float64(0.1)], np.int64(1): np.bool_(True)}
    assert same(round_trip(numbers, path), {"a": float(np.float32(0.1)), "b": [-7, 0.1], 1: True})


@pytest.mark.parametrize("array", [np.array([None]), np.array(["b"]), np.zeros(2, ">f4")])
def test_arrays_of_types_that_pytorch_lacks_are_named_and_nothing_is_written(tmp_path, array):
    with pytest.raises(ValueError, match=f"^state must hold arrays of numbers, got {array.dtype}$"):
        checkpoints.save(tmp_path / "state.pt", {"a": [array]})
    assert not list(tmp_path.iterdir())


LOADERS = [checkpoints.load, lambda path: checkpoints.load_weights(path, torch.nn.Linear(2, 3))]


class Trap:
    """Makes a folder if loading it executes code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize(
    "dump",
    [lambda o, path: path.write_bytes(pickle.dumps(o)), torch.save, lambda o, path: np.save(path, [o])],
)
def test_loading_executes_no_code(tmp_path, load, dump, checksum):
    path, sprung = tmp_path / "state.npy", tmp_path / "sprung"
    dump({"state": Trap(sprung)}, path)
    data = path.read_bytes()
    path.write_bytes(data + zlib.crc32(data).to_bytes(4, "little") * checksum)
    with pytest.raises(ValueError, match=rf"{path} is damaged \({path.stat().st_size:,} bytes\)") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # PyTorch's own message advises to turn it off
    assert not sprung.exists()
    if dump is not torch.save:  # the trap works
        np.load(path, allow_pickle=True)
    else:
        torch.load(path, weights_only=False)
    assert sprung.exists()


def test_no_function_but_its_own_can_be_named_in_a_checkpoint(tmp_path):
    checkpoints.save(tmp_path / "state.pt", {"f": np.exp})  # functions are pickled by name
    with pytest.raises(ValueError, match="it holds something other than numbers and text"):
        checkpoints.load(tmp_path / "state.pt")


@pytest.mark.parametrize("load", LOADERS)
def test_a_truncated_file_is_refused_at_every_length(tmp_path, load):
    path = tmp_path / "file"
    if load is checkpoints.load:
        checkpoints.save(path, {"w": torch.ones(3), "n": 7})
    else:
        checkpoints.save_weights(path, torch.nn.Linear(2, 3))
    whole = path.read_bytes()
    load(path)
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            load(path)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "state.pt"
    checkpoints.save(path, {"w": torch.ones(3), "n": [7, {1: None}], "a": np.ones(2)})
    whole = path.read_bytes()
    for i, byte in enumerate(whole):
        path.write_bytes(whole[:i] + bytes([byte ^ 1 << i % 8]) + whole[i + 1 :])
        with pytest.raises(ValueError, match=rf"{path} is damaged \({len(whole):,} bytes\)"):
            checkpoints.load(path)


def test_every_flipped_bit_of_weights_is_noticed_or_changes_none_of_them(tmp_path):
    """A blank of the header, or the name of the digest, may change: then the weights are right."""
    path, network, fresh = tmp_path / "weights.safetensors", torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    checkpoints.save_weights(path, network)
    checkpoints.load_weights(path, network)
    whole, n_noticed = path.read_bytes(), 0
    for i, bit in itertools.product(range(len(whole)), range(8)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
        try:
            checkpoints.load_weights(path, fresh)
        except ValueError as error:
            n_noticed += str(path) in str(error)
        else:
            assert same(dict(fresh.state_dict()), dict(network.state_dict()))
    assert n_noticed > 0.9 * 8 * len(whole)


def test_weights_of_earlier_versions_have_no_digest_and_are_loaded(tmp_path):
    path, network, fresh = tmp_path / "weights.safetensors", torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    save_file({name: w.half() for name, w in network.state_dict().items()}, path)
    checkpoints.load_weights(path, fresh)
    assert torch.equal(fresh.weight, network.weight.half().float())


@pytest.mark.parametrize("state", [[1], 7, torch.ones(2)])
def test_a_checkpoint_that_holds_no_dict_is_damaged(tmp_path, state):
    checkpoints.save(tmp_path / "state.pt", state)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/state.pt is damaged .*: it holds no dict but a "):
        checkpoints.load(tmp_path / "state.pt")


def test_a_damaged_header_of_weights_is_a_value_error(tmp_path):
    path, network = tmp_path / "weights.safetensors", torch.nn.Linear(2, 3)
    checkpoints.save_weights(path, network)
    whole = path.read_bytes()
    n = 8 + int.from_bytes(whole[:8], "little")
    refused = 0  # a blank may change unnoticed
    for i, byte in itertools.product(range(n), (0, 34, 255)):  # 34 is a quotation mark
        path.write_bytes(whole[:i] + bytes([byte]) + whole[i + 1 :])
        try:
            checkpoints.load_weights(path, network)
        except ValueError as error:
            refused += str(path) in str(error)
    assert refused > n


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "weights.safetensors"
    checkpoints.save_weights(path, torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        checkpoints.load(path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        checkpoints.load(tmp_path / "nothing.pt")


def test_the_last_two_checkpoints_remain(tmp_path):
    assert checkpoints.latest(tmp_path) is None
    names = []
    for n in (3, 20, 100, 1_000_000):  # of different lengths in digits
        checkpoints.add(tmp_path, n, {"n": n})
        names = [*names, f"checkpoint-{n:09d}.pt"][-2:]
        assert sorted(p.name for p in tmp_path.iterdir()) == names
        assert checkpoints.load(checkpoints.latest(tmp_path)) == {"n": n}
    (tmp_path / "policy.safetensors").touch()
    checkpoints.clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["policy.safetensors"]


OLD, NEW = b"old" * 1_000_000, b"new" * 700_000
WRITE_FOREVER = f"""
import pathlib, sys
from pgcourse.experiments import checkpoints
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    checkpoints.atomic_write(path, b"new" * {len(NEW) // 3})
    checkpoints.atomic_write(path, b"old" * {len(OLD) // 3})
"""


@unix
def test_a_process_killed_while_it_writes_leaves_a_complete_file(tmp_path):
    """Some kill must hit a write, else nothing is tested: two in three do, so all 12 miss with p = 10⁻⁵."""
    rng, n_amid = np.random.default_rng(0), 0
    path, part = tmp_path / "file", tmp_path / ".file.part"
    path.write_bytes(OLD)
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, path], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert path.read_bytes() in (OLD, NEW)
        n_amid += part.exists()
        part.unlink(missing_ok=True)
    assert n_amid
    part.write_bytes(b"what a killed one left")
    checkpoints.atomic_write(path, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


LIMITED = """
import pathlib, resource, signal, sys
from pgcourse.experiments import checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    checkpoints.atomic_write(pathlib.Path(sys.argv[1]), b"new" * 5000)
except OSError as error:
    print(error)
"""


@unix
def test_a_write_that_fails_half_way_leaves_the_old_file_and_says_so(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True
    ).stdout
    assert said == f"[Errno 27] File too large; what was written before is complete: '{path}'\n"
    assert path.read_bytes() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_into_no_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"No such file or directory; what was written before is complete: .*nowhere/file",
    ):
        checkpoints.atomic_write(tmp_path / "nowhere" / "file", b"")


@unix
@pytest.mark.parametrize("of_folder", [False, True])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_network_share_that_cannot_flush_is_no_error_and_other_errors_name_the_path(
    tmp_path, monkeypatch, of_folder, code
):
    fsync = os.fsync

    def failing(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folder:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    path = tmp_path / "file"
    if code != errno.EIO:
        checkpoints.atomic_write(path, b"new")
        assert path.read_bytes() == b"new"
        return
    with pytest.raises(OSError, match=rf"Input/output error; .*'{tmp_path if of_folder else path}'$"):
        checkpoints.atomic_write(path, b"new")


def test_a_lock_can_be_nested_and_keeps_others_out(tmp_path):
    """Another thread of this process too."""
    order = []

    def other():
        message = f"^another process is working in {tmp_path}; waiting for it$"
        with pytest.warns(UserWarning, match=message), checkpoints.locked(tmp_path):
            order.append("other")

    with checkpoints.locked(tmp_path):
        with checkpoints.locked(tmp_path):
            thread = threading.Thread(target=other)
            thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_weights_are_saved_in_half_precision(tmp_path):
    torch.manual_seed(0)
    network, path = torch.nn.Linear(5, 3), tmp_path / "policy.safetensors"
    exact = {name: w.half().float() for name, w in network.state_dict().items()}
    checkpoints.save_weights(path, network)
    once = path.read_bytes()
    assert len(once) < 2 * (5 * 3 + 3) + 300  # two bytes a weight
    checkpoints.load_weights(path, network)
    assert same(
        dict(network.state_dict()), exact
    )  # float32 again, rounded to the nearest of 11 binary digits
    checkpoints.save_weights(path, network)
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            torch.nn.Linear(2, 4),
            r"must hold weights bias of shape \(3,\), got \(4,\) \(None: there is no such weight\)",
        ),
        (torch.nn.Linear(5, 3), r"must hold weights weight of shape \(3, 2\), got \(3, 5\)"),
        (torch.nn.Linear(2, 3, bias=False), r"must hold weights bias of shape \(3,\), got None"),
        (torch.nn.Sequential(torch.nn.Linear(2, 3)), r"must hold weights 0\.bias of shape None, got \(3,\)"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, other, message):
    path, network = tmp_path / "policy.safetensors", torch.nn.Linear(2, 3)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    checkpoints.save_weights(path, other)
    with pytest.raises(ValueError, match=f"{path} {message}"):
        checkpoints.load_weights(path, network)
    assert same(dict(network.state_dict()), before)
