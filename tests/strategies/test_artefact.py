"""Model files: round trip, the same bytes for the same model, and every refusal."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.client.bench import make_bench
from tests.simulations.laboratory import ROOT, environment
from vestry_strategies.artefact import ModelArtefact, ModelFileError, load_artefact, save_artefact

BENCH = make_bench()
ARTEFACT = ModelArtefact(
    study=BENCH.study,
    round=4,
    tensors=BENCH.flat.layout.split(BENCH.model),
    preprocessing=BENCH.preprocessing,
    insecure=("aggregation.secure = false",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "model.safetensors"
    save_artefact(target, ARTEFACT, BENCH.flat.layout)
    return target


def rewritten(path: Path, **changes: Any) -> Path:
    """The file with parts of its header changed."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["vestry"])
    header.update(changes)
    path.write_bytes(save(load(content), metadata={"vestry": json.dumps(header)}))
    return path


def test_what_is_saved_is_loaded(path: Path) -> None:
    loaded = load_artefact(path)
    assert (loaded.study, loaded.round, loaded.insecure) == (ARTEFACT.study, 4, ARTEFACT.insecure)
    assert np.array_equal(BENCH.flat.layout.join(loaded.tensors), BENCH.model)
    assert loaded.preprocessing.keys() == BENCH.preprocessing.keys()
    for name, array in BENCH.preprocessing.items():
        assert np.array_equal(loaded.preprocessing[name], array)


def test_another_process_writes_the_same_bytes(path: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.strategies.test_artefact import *\n"
        "save_artefact(Path(sys.argv[1]), ARTEFACT, BENCH.flat.layout)"
    )
    for seed in ("1", "2"):
        settings = {**environment(), "PYTHONHASHSEED": seed}
        settings["PYTHONPATH"] += f":{ROOT}"
        other = tmp_path / f"{seed}.safetensors"
        subprocess.run([sys.executable, "-c", program, str(other)], env=settings, check=True)
        assert other.read_bytes() == path.read_bytes()


def test_tensors_that_are_not_the_models_are_a_defect(tmp_path: Path) -> None:
    wrong = replace(ARTEFACT, tensors={"x": np.zeros(1, dtype=np.float32)})
    with pytest.raises(ValueError, match="are not those of the model"):
        save_artefact(tmp_path / "x", wrong, BENCH.flat.layout)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file"):
        load_artefact(tmp_path / "x")
    with pytest.raises(ModelFileError, match="there is no such file"):
        load_artefact(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 60, -1])
def test_a_truncated_file(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFileError, match="no safetensors file, or it is truncated"):
        load_artefact(path)


def test_a_file_of_another_kind(path: Path) -> None:
    path.write_bytes(b"\x80\x04pickle" * 20)
    with pytest.raises(ModelFileError, match="no safetensors file"):
        load_artefact(path)


def test_a_safetensors_file_of_somebody_else(path: Path) -> None:
    path.write_bytes(save({"x": np.zeros(1)}))
    with pytest.raises(ModelFileError, match="none of Vestry's"):
        load_artefact(path)
    path.write_bytes(save({"x": np.zeros(1)}, metadata={"vestry": "no json"}))
    with pytest.raises(ModelFileError, match="none of Vestry's"):
        load_artefact(path)


def test_a_newer_version(path: Path) -> None:
    with pytest.raises(ModelFileError, match="version=2 is unknown"):
        load_artefact(rewritten(path, version=2))


def test_a_study_that_was_changed(path: Path) -> None:
    study = {**ARTEFACT.study.canonical(), "seed": 99}
    with pytest.raises(ModelFileError, match="does not match its study hash; it was changed"):
        load_artefact(rewritten(path, study=study))


def test_a_header_that_lacks_a_part(path: Path) -> None:
    changes: list[dict[str, Any]] = [{"study": {}}, {"round": "x"}, {"insecure": None}]
    for broken in changes:
        with pytest.raises(ModelFileError, match="its header is damaged"):
            load_artefact(rewritten(path, **broken))
