"""Manifests: what is written is read back; damage and changes are refused."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulations.laboratory import environment
from vestry_simulations.datasets import heart_data, heart_study
from vestry_simulations.faults import Faults
from vestry_simulations.manifest import (
    Manifest,
    ManifestError,
    file_hash,
    read_manifest,
    run_lock,
    write_manifest,
)
from vestry_strategies.study import load_study


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        run_id="run-1",
        study=load_study(heart_study()).with_changes(seed=9),
        data=heart_data(),
        data_hash="0" * 64,
        by="site",
        baselines=True,
        workers=3,
        allowed_plugins=("a", "b"),
        faults=Faults(0.5, 2.0, 1.0, 7),
    )


def test_what_is_written_is_read_back(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_a_plain_manifest_is_read_back(tmp_path: Path, manifest: Manifest) -> None:
    plain = replace(manifest, by=None, sites=4, partition="dirichlet:0.5", workers=None, faults=Faults())
    write_manifest(tmp_path, plain)
    assert read_manifest(tmp_path) == plain


def test_a_folder_without_one_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no run"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match="holds no run"):
        read_manifest(tmp_path / "nowhere")


def test_a_damaged_one_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ManifestError, match="is damaged"):
        read_manifest(tmp_path)


def test_a_newer_one_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(ManifestError, match="version=2"):
        read_manifest(tmp_path)


def test_a_study_that_was_changed_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    plain = json.loads(path.read_text())
    plain["study"]["seed"] = 10
    path.write_text(json.dumps(plain))
    with pytest.raises(ManifestError, match="a run cannot change its study"):
        read_manifest(tmp_path)


def test_a_file_has_the_hash_that_sha256sum_prints(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    # FIPS 180-4, example of SHA-256
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(heart_data()) == hashlib.sha256(heart_data().read_bytes()).hexdigest()


def test_a_lock_is_for_one_and_given_back(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(ManifestError, match="another process"), run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom vestry_simulations.manifest import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment(), check=False)
    assert done.returncode == -9
    with run_lock(tmp_path):
        pass
