"""Against the types themselves, against other formats in a checkpoint's place, and against real kills and a real lack of room."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pgcourse.experiments import checkpoints

reproducible = settings(derandomize=True, deadline=None, max_examples=50)
unix = pytest.mark.skipif(
    os.name != "posix", reason="needs SIGKILL and limits on resources, which Windows has not"
)

DTYPES = [bool, np.uint8, np.int16, np.int64, np.uint64, np.float16, np.float32, np.float64, np.complex64]
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
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inside)
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
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return repr(a) == repr(b)  # NaN, −0


def round_trip(state, path):
    checkpoints.save(path, state)
    return checkpoints.load(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints") / "state.safetensors"


@reproducible
@given(state=state)
def test_a_state_comes_back_as_it_was(path, state):
    assert same(round_trip(state, path), state)


def test_names_that_read_alike_are_kept_apart(path):
    one, two = torch.ones(1), torch.full((1,), 2.0)
    for alike in (
        {"a.b": one, "a": {"b": two}},
        {0: one, "0": two},
        {"a": [one], "a.0": two},
        {"tensor": "items", "items": {"array": one}},
    ):
        assert same(round_trip(alike, path), alike)


def test_arrays_that_share_memory_or_lie_oddly_in_it_are_kept(path):
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
        np.testing.assert_array_equal(
            loaded[name], value.detach() if isinstance(value, torch.Tensor) else value, strict=True
        )


def test_a_generator_goes_on_where_it_was(path):
    rng, again = np.random.default_rng(1), np.random.default_rng(2)
    rng.random(5)
    again.bit_generator.state = round_trip(rng.bit_generator.state, path)
    assert rng.bit_generator.state["state"]["state"] > 2**64  # too big for an array
    assert (rng.random(9) == again.random(9)).all()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD])
def test_an_optimizer_goes_on_where_it_was(path, optimizer):
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
    ("state", "message"),
    [
        ({"a": {1}}, r"state\.a must be a dict, list, tensor, array, number, string or None, got set"),
        ({"a": [{"b": np.int64(1)}]}, r"state\.a\.0\.b must be a dict, .*, got int64"),
        ({"a": {(1, 2): 0}}, r"keys of state\.a must be strings or integers, got \(1, 2\)"),
        ({"a": {np.int64(1): 0}}, r"keys of state\.a must be strings or integers, got np\.int64\(1\)"),
        ({"a": np.array([None])}, r"state\.a must hold numbers of a type that PyTorch has, got object"),
        ({"a": np.array(["b"])}, r"state\.a must hold numbers of a type that PyTorch has, got <U1"),
        (
            {"a": torch.zeros(1, dtype=torch.complex128)},
            "state must hold arrays of a type that safetensors has, got torch.complex128",
        ),
    ],
)
def test_what_cannot_be_kept_is_named_and_nothing_is_written(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        checkpoints.save(tmp_path / "state.safetensors", state)
    assert not list(tmp_path.iterdir())


LOADERS = [checkpoints.load, lambda path: checkpoints.load_weights(path, torch.nn.Linear(2, 3))]


class Trap:
    """What would make a folder, could loading it run code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    "dump",
    [lambda o, path: path.write_bytes(pickle.dumps(o)), torch.save, lambda o, path: np.save(path, [o])],
)
def test_loading_executes_no_code(tmp_path, load, dump):
    path, sprung = tmp_path / "state.npy", tmp_path / "sprung"
    dump({"state": Trap(sprung)}, path)
    with pytest.raises(ValueError, match=rf"{path} is damaged \({path.stat().st_size:,} bytes\)"):
        load(path)
    assert not sprung.exists()
    if dump is not torch.save:  # the trap works
        np.load(path, allow_pickle=True)
        assert sprung.exists()


@pytest.mark.parametrize("load", LOADERS)
def test_a_file_that_lacks_its_end_is_refused_at_every_length(tmp_path, load):
    path = tmp_path / "checkpoint-000000001.safetensors"
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


def test_whatever_befalls_the_header_is_a_value_error(tmp_path):
    path = tmp_path / "state.safetensors"
    checkpoints.save(path, {"w": torch.ones(3), "n": [7, {1: None}]})
    whole = path.read_bytes()
    n = 8 + int.from_bytes(whole[:8], "little")
    refused = 0  # a byte of a name may change unnoticed
    for i, byte in itertools.product(range(n), (0, 34, 255)):  # 34 is a quotation mark
        path.write_bytes(whole[:i] + bytes([byte]) + whole[i + 1 :])
        try:
            checkpoints.load(path)
        except ValueError as error:
            refused += str(path) in str(error)
    assert refused > n


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "weights.safetensors"
    checkpoints.save_weights(path, torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match=f"{path} is no checkpoint of pgcourse"):
        checkpoints.load(path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        checkpoints.load(tmp_path / "nothing.safetensors")


def test_the_last_two_checkpoints_are_kept(tmp_path):
    assert checkpoints.latest(tmp_path) is None
    names = []
    for n in (3, 20, 100, 1_000_000):  # of different lengths in digits
        checkpoints.add(tmp_path, n, {"n": n})
        names = [*names, f"checkpoint-{n:09d}.safetensors"][-2:]
        assert sorted(p.name for p in tmp_path.iterdir()) == names
        assert checkpoints.load(checkpoints.latest(tmp_path)) == {"n": n}
    (tmp_path / "policy.safetensors").touch()
    checkpoints.clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["policy.safetensors"]


OLD, NEW = b"old" * 1_000_000, b"new" * 700_000
WRITE_FOR_EVER = f"""
import pathlib, sys
from pgcourse.experiments import checkpoints
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    checkpoints.write(path, b"new" * {len(NEW) // 3})
    checkpoints.write(path, b"old" * {len(OLD) // 3})
"""


@unix
def test_a_process_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    """Some kill must fall into a write, else nothing is tested: two in three did when measured, so all 12 miss with p = 10⁻⁵."""
    rng, n_amid = np.random.default_rng(0), 0
    path, part = tmp_path / "file", tmp_path / ".file.part"
    path.write_bytes(OLD)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, path], stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert path.read_bytes() in (OLD, NEW)
        n_amid += part.exists()
        part.unlink(missing_ok=True)
    assert n_amid
    part.write_bytes(b"what a killed one left")
    checkpoints.write(path, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


LIMITED = """
import pathlib, resource, signal, sys
from pgcourse.experiments import checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    checkpoints.write(pathlib.Path(sys.argv[1]), b"new" * 5000)
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
    assert said == f"[Errno 27] File too large; what was written before is whole: '{path}'\n"
    assert path.read_bytes() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_into_no_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"No such file or directory; what was written before is whole: .*nowhere/file",
    ):
        checkpoints.write(tmp_path / "nowhere" / "file", b"")


def test_weights_are_kept_in_half_precision(tmp_path):
    torch.manual_seed(0)
    network, path = torch.nn.Linear(5, 3), tmp_path / "policy.safetensors"
    exact = {name: w.half().float() for name, w in network.state_dict().items()}
    checkpoints.save_weights(path, network)
    once = path.read_bytes()
    assert len(once) < 2 * (5 * 3 + 3) + 200  # two bytes a weight
    checkpoints.load_weights(path, network)
    assert same(
        dict(network.state_dict()), exact
    )  # float32 again, rounded to the nearest of 11 binary digits
    checkpoints.save_weights(path, network)
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    ("kept", "message"),
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
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, kept, message):
    path, network = tmp_path / "policy.safetensors", torch.nn.Linear(2, 3)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    checkpoints.save_weights(path, kept)
    with pytest.raises(ValueError, match=f"{path} {message}"):
        checkpoints.load_weights(path, network)
    assert same(dict(network.state_dict()), before)
