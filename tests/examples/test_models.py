"""The models of `examples/` at a small size: they reach a stated loss or accuracy."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import lazygrad as lg
from examples import autoencoder, convnet, gan, gpt, lstm, resnet, vae
from lazygrad.runtime.dispatch import uses_native


def test_convnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "weights.safetensors"
    assert convnet.main(["--epochs", "6", "--save", str(saved)]) > 0.93
    assert "epoch   5  loss 0." in capsys.readouterr().out
    assert sorted(lg.load(saved)) == [
        f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc") for kind in ("bias", "weight")
    ]


def test_convnet_on_files_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convnet.CIFAR10, "images_per_file", 8)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (8, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(tmp_path / name)
    small = ["--epochs", "1", "--batch-size", "4", "--images", "4"]
    assert 0 <= convnet.main(["--cifar", str(tmp_path), *small]) <= 1


def test_resnet() -> None:
    small = ["--width", "8", "--blocks", "1", "1", "--epochs", "2"]
    assert resnet.main(small) > 0.8


def test_resnet_18_has_the_names_and_shapes_of_torchvision() -> None:
    shapes = {name: t.shape for name, t in resnet.ResNet().state_dict().items()}
    wanted: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, width: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            wanted[f"{name}.{kind}"] = (width,)
        wanted[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    inside = 64
    for i, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            place = f"layer{i}.{block}"
            wanted[f"{place}.conv1.weight"] = (width, inside, 3, 3)
            wanted[f"{place}.conv2.weight"] = (width, width, 3, 3)
            norm(f"{place}.bn1", width)
            norm(f"{place}.bn2", width)
            if inside != width:
                wanted[f"{place}.downsample.0.weight"] = (width, inside, 1, 1)
                norm(f"{place}.downsample.1", width)
            inside = width
    wanted |= {"fc.weight": (1000, 512), "fc.bias": (1000,)}
    assert shapes == wanted
    assert len(shapes) == 122


def test_autoencoder() -> None:
    assert autoencoder.main(["--epochs", "8"]) < 0.065


def test_vae() -> None:
    assert vae.main(["--epochs", "8"]) < 27


def test_gan() -> None:
    assert gan.main(["--steps", "200", "--hidden", "32", "--lr", "0.004"]) < 0.8


def test_lstm() -> None:
    assert lstm.main(["--length", "6", "--hidden", "16", "--steps", "120"]) > 0.95


def test_gpt_learns_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh " * 40)
    small = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16"]
    options = ["--steps", "80", "--lr", "0.02", "--generate", "17", "--temperature", "0"]
    assert gpt.main(["--text", str(text), *small, *options]) < 0.1
    assert capsys.readouterr().out.splitlines()[-1] == "abcdefgh abcdefgh "


def tiny() -> dict[str, np.ndarray]:
    """A checkpoint in Hugging Face's layout with random numbers: 2 layers, 2 heads, width 8."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (11, 8), "wpe.weight": (12, 8)}
    for i in range(2):
        shapes |= {
            f"h.{i}.attn.c_attn.weight": (8, 24), f"h.{i}.attn.c_attn.bias": (24,),
            f"h.{i}.attn.c_proj.weight": (8, 8), f"h.{i}.attn.c_proj.bias": (8,),
            f"h.{i}.mlp.c_fc.weight": (8, 32), f"h.{i}.mlp.c_fc.bias": (32,),
            f"h.{i}.mlp.c_proj.weight": (32, 8), f"h.{i}.mlp.c_proj.bias": (8,),
        }  # fmt: skip
        shapes |= {f"h.{i}.{n}.{k}": (8,) for n in ("ln_1", "ln_2") for k in ("weight", "bias")}
    shapes |= {"ln_f.weight": (8,), "ln_f.bias": (8,)}
    found = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    return found | {f"h.{i}.attn.bias": np.ones((1, 1, 12, 12), np.float32) for i in range(2)}


def forward(w: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """GPT-2 in NumPy: the scores of each position."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for i in range(2):
        q, k, v = np.split(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, -1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            scores = q[:, h] @ k[:, h].T / 2 + np.triu(np.full((len(x),) * 2, -np.inf), 1)
            e = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(e / e.sum(-1, keepdims=True) @ v[:, h])
        x = x + linear(np.concatenate(heads, -1), f"h.{i}.attn.c_proj")
        y = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + linear(y, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_of_gpt_2_means_here_what_it_means_there(tmp_path: Path, prefix: str) -> None:
    weights = tiny()
    path = tmp_path / "model.safetensors"
    save_file({prefix + name: array for name, array in weights.items()}, path)
    model = gpt.GPT(11, 12, layers=2, heads=2, width=8, dropout=0.1)
    model.load(str(path))
    model.eval()
    tokens = [3, 1, 4, 1, 5, 9, 2]
    found = model(lg.tensor([tokens])).numpy()[0]
    np.testing.assert_allclose(found, forward(weights, tokens), rtol=2e-4, atol=2e-4)


def test_generation_with_the_cache_is_generation_without() -> None:
    lg.manual_seed(3)
    model = gpt.GPT(11, 12, layers=2, heads=2, width=8, dropout=0.0)
    for parameter in model.parameters():
        nudge = lg.randn(*parameter.shape) * 0.3
        parameter.data = (parameter + nudge).numpy()
    prompt = [3, 1, 4]
    tokens = [*prompt, *model.generate(prompt, 6, temperature=0)]
    likeliest = model(lg.tensor([tokens]))[0].argmax(dim=-1).tolist()
    assert likeliest[2:-1] == tokens[3:]
    for prompt, temperature in (([], 1.0), ([0], -1.0)):
        with pytest.raises(ValueError, match="a token to begin with and a temperature >= 0"):
            next(model.generate(prompt, 1, temperature))
    lg.manual_seed(0)
    drawn = list(model.generate([3], 11, temperature=1.5, top_k=1))
    assert drawn == list(model.generate([3], 11, temperature=0))


def test_a_text_longer_than_the_context_goes_on_from_the_latest_part_of_it() -> None:
    lg.manual_seed(3)
    model = gpt.GPT(11, 6, layers=1, heads=2, width=8, dropout=0.0)
    for parameter in model.parameters():
        parameter.data = (parameter + lg.randn(*parameter.shape) * 0.3).numpy()
    tokens = list(range(8))
    tokens += model.generate(tokens, 9, temperature=0)
    seen = 3  # of eight tokens the latest three, and so whenever six are there
    for place in range(8, len(tokens)):
        scores = model(lg.tensor([tokens[place - seen : place]]))[0, -1]
        assert tokens[place] == scores.argmax().item()
        seen = seen + 1 if seen < 6 else 3


def test_gpt_says_that_a_text_is_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(SystemExit):
        gpt.main(["--text", str(tmp_path / "text")])
    assert "has 5 characters: pass a --context below that" in capsys.readouterr().err


def test_a_token_writes_its_own_keys_and_values_only() -> None:
    """One program for all positions, which has no room for a copy of the cache."""
    model = gpt.GPT(11, 4096, 2, 2, 64, 0.0).eval()

    @lg.compute_graph
    def advance(token: lg.Tensor, position: lg.Tensor) -> lg.Tensor:
        return model(token, position)[0, -1].argmax().reshape(1, 1)

    caches = [b for name, b in model.named_buffers() if name.endswith(("keys", "values"))]
    with lg.no_grad():
        token = advance(lg.tensor([[3]]), lg.scalar(0))
        places = [c.numpy().ctypes.data for c in caches]
        for place in range(1, 5):
            token = advance(token, lg.scalar(place))
    assert token.shape == (1, 1)
    assert advance.cache_info().misses == 1
    assert [c.numpy().ctypes.data for c in caches] == places
    assert len(caches) == 4
    for values in (c.mT if c.shape[2] == 32 else c for c in caches):
        assert (values[:, :, :5] != 0).all() and (values[:, :, 5:] == 0).all()
    if uses_native():  # NumPy reads dense copies
        assert advance._last.replay._step.program.memory.arena_bytes < caches[0].nbytes
