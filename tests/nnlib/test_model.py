import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nnlib import Flatten, Linear, ReLU, Sequential


def mlp(rng, hidden=5):
    return Sequential([Flatten(), Linear(4, hidden, rng=rng), ReLU(), Linear(hidden, 3, rng=rng)])


def test_names_are_positions_and_parameters(rng):
    assert [name for name, _ in mlp(rng).named_parameters()] == ["1.W", "1.b", "3.W", "3.b"]
    assert list(mlp(rng).named_gradients()) == []
    with pytest.raises(ValueError, match="at least one layer"):
        Sequential([])
    with pytest.raises(ValueError, match=r"expects layers, such as ReLU\(\), got <class"):
        Sequential([Linear(2, 2, rng=rng), ReLU])
    shared = ReLU()
    with pytest.raises(ValueError, match="a layer of its own"):
        Sequential([Linear(2, 2, rng=rng), shared, Linear(2, 2, rng=rng), shared])


def test_predict_goes_batch_by_batch_and_keeps_the_order(rng):
    model, x = mlp(rng), rng.integers(0, 256, (23, 2, 2, 1), dtype=np.uint8)
    logits = model.predict(x, batch_size=5)
    assert logits.shape == (23, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, model.forward(x), rtol=1e-5, atol=1e-6)
    assert np.array_equal(model.forward(x), model.forward(x.astype(np.float32) / 255))
    with pytest.raises(ValueError, match="at least one sample"):
        model.predict(x[:0])


def test_save_and_load(rng, tmp_path):
    model, other, path = mlp(rng), mlp(rng), tmp_path / "weights"
    model.save(path)
    assert os.listdir(tmp_path) == ["weights"]
    params = [param for _, param in other.named_parameters()]
    other.load(path)
    for (_, mine), (_, theirs), before in zip(model.named_parameters(), other.named_parameters(), params, strict=True):
        assert np.array_equal(mine, theirs) and theirs is before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_saved_model_may_be_read_by_whom_the_umask_allows(umask, mode, rng, tmp_path):
    before = os.umask(umask)
    try:
        mlp(rng).save(tmp_path / "weights.npz")
    finally:
        os.umask(before)
    assert (tmp_path / "weights.npz").stat().st_mode & 0o777 == mode


def test_a_file_of_another_model_is_refused_whole(rng, tmp_path):
    mlp(rng, hidden=7).save(tmp_path / "seven.npz")
    Sequential([Linear(4, 5, rng=rng)]).save(tmp_path / "one.npz")
    model = mlp(rng)
    before = model.copy_weights()
    with pytest.raises(
        ValueError, match=r"seven\.npz does not fit this model: 1\.W has shape \(4, 7\), .* expects \(4, 5\)"
    ):
        model.load(tmp_path / "seven.npz")
    with pytest.raises(ValueError, match=r"1\.W is missing.*0\.W is not in the model"):
        model.load(tmp_path / "one.npz")
    words = {name: np.full(param.shape, "weight") for name, param in model.named_parameters()}
    with pytest.raises(ValueError, match=r"1\.W holds <U6, not floats"):
        model.set_weights(words)
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "nowhere.npz")
    assert all(np.array_equal(param, before[name]) for name, param in model.named_parameters())


def truncated(path: Path):
    path.write_bytes(path.read_bytes()[:200])


def html(path: Path):
    path.write_text("<html>404</html>")


def empty(path: Path):
    path.write_bytes(b"")


def pickled(path: Path):
    with zipfile.ZipFile(path, "w") as archive:
        np.save(path.with_suffix(".npy"), np.array([{}], dtype=object), allow_pickle=True)
        archive.write(path.with_suffix(".npy"), "1.W.npy")


def single_array(path: Path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize("damage", [truncated, html, empty, pickled, single_array])
def test_damaged_files(damage, rng, tmp_path):
    model, path = mlp(rng), tmp_path / "weights.npz"
    model.save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"weights\.npz cannot be read as an \.npz file"):
        model.load(path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_breaks_off_leaves_the_old_file_and_no_half_file(error, rng, tmp_path, monkeypatch):
    model, path = mlp(rng), tmp_path / "weights.npz"
    model.save(path)
    old = path.read_bytes()

    def breaks_off(file, **arrays):
        file.write(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", breaks_off)
        with pytest.raises(type(error)):
            model.save(path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["weights.npz"]
    model.save(path)
    model.load(path)
