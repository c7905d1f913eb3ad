"""The disk cache of frozen outputs: whole files, and never more than its share."""

import os
import subprocess

import numpy as np
import pytest

from client_app.cache.features import FeatureCache


def test_what_is_put_comes_back_and_a_torn_file_does_not(tmp_path):
    cache = FeatureCache(tmp_path / "weights", limit=10_000)
    array = np.arange(600, dtype=np.float16).reshape(2, 300, 1)
    cache.put("one", array)
    assert np.array_equal(cache.get("one"), array) and cache.get("two") is None
    path = tmp_path / "weights" / "one.npy"
    path.write_bytes(path.read_bytes()[:700])
    assert cache.get("one") is None
    path.write_bytes(b"")
    assert cache.get("one") is None


def test_older_weights_go_first_and_the_limit_holds(tmp_path):
    array = np.zeros(1000, dtype=np.float16)  # 2000 bytes
    for age, name in ((300, "old"), (200, "older but used")):
        FeatureCache(tmp_path / name, limit=9000).put("x", array)
        FeatureCache(tmp_path / name, limit=9000).put("y", array)
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    FeatureCache(tmp_path / "older but used", limit=9000)
    now = FeatureCache(tmp_path / "now", limit=9000)
    now.put("a", array)
    assert not (tmp_path / "old").exists() and (tmp_path / "older but used").exists()
    for i in range(20):
        now.put(f"b{i}", array)
    found = sum(p.stat().st_size for p in tmp_path.rglob("*.npy"))
    assert 6000 < found <= 9000 and now.get("a") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk wants root")
def test_a_full_disk_only_makes_it_slower(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        cache = FeatureCache(small / "weights", limit=10_000_000)
        cache.put("little", np.zeros(100, dtype=np.float16))
        cache.put("large", np.zeros(100_000, dtype=np.float16))
        cache.put("later", np.zeros(100, dtype=np.float16))
        assert cache.get("little") is not None
        assert cache.get("large") is None and cache.get("later") is None
        assert [path.name for path in (small / "weights").iterdir()] == ["little.npy"]
    finally:
        subprocess.run(["umount", str(small)], check=True)
