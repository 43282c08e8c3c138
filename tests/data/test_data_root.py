"""Paths of a list that lead out of --data_root, by dots or by links."""

import pytest
from PIL import Image

from ifnd_tf.data.datasets import open_splits
from ifnd_tf.errors import UserError

pytestmark = pytest.mark.faults


@pytest.fixture
def folder(tmp_path):
    for name in ("in/a.png", "out/b.png"):
        path = tmp_path / name
        path.parent.mkdir()
        Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "b.png")
    return tmp_path / "in"


@pytest.mark.parametrize("path", ["../out/b.png", "link.png", "x/../../out/b.png", "/etc/hostname"])
def test_a_path_that_leads_out_is_refused_with_its_line(path, folder):
    (folder / "list.txt").write_text(f"a.png\n{path}\n")
    with pytest.raises(UserError, match="line 2: expected an image in --data_root"):
        open_splits(f"list:{folder / 'list.txt'}", data_root=str(folder))
    open_splits(f"list:{folder / 'list.txt'}")


def test_a_byte_that_no_path_has_is_refused(folder):
    (folder / "list.txt").write_bytes(b"a.png\nb\0.png\n")
    with pytest.raises(UserError, match="line 2"):
        open_splits(f"list:{folder / 'list.txt'}", data_root=str(folder))
