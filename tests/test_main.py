"""The command line, as a user meets it: results, and one-line errors."""

import json
import pathlib
import socket
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import main
from ifnd_tf.config import Config
from ifnd_tf.errors import UserError
from tests import tiny
from tests.conftest import free_ports

TINY = [f"--{name}={value}" for name, value in tiny.SETTINGS.items()]


def run(*arguments: str) -> int:
    return main.main([*TINY, *arguments])


def error(capsys, *arguments: str) -> str:
    """The one line that a failing command prints; there is no traceback."""
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def save_images(folder, count, seed=0, size=8):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


@pytest.fixture
def called(monkeypatch) -> list:
    """The addresses that were asked for or connected to, none of which can be reached."""
    addresses: list = []

    def connect(self, address):
        addresses.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: addresses.append(args))
    return addresses


def test_a_run_leaves_everything_behind_and_calls_nobody(tmp_path, capsys, monkeypatch, called):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # a terminal shows every phase
    workdir = tmp_path / "run"
    assert run(f"--workdir={workdir}", "--num_clusters=4,8", "--online_knn_epochs=1") == 0
    assert called == []
    results = json.loads((workdir / "results.json").read_text())
    shares = [
        "knn_top1",
        "linear_top1",
        "linear_10pct_top1",
        "untrained_knn_top1",
        "raw_pixel_knn_top1",
        "detection_precision",
        "detection_recall",
    ]
    for name in shares:
        assert 0.0 <= results[name] <= 1.0, name
    assert results["epochs"] == 2
    assert results["random_loss"] == pytest.approx(np.log(65))
    assert 0 < results["health_embedding_std"] <= 1
    assert isinstance(results["health_warnings"], list)
    assert results["train_images_per_second"] > 0
    assert results["wall_seconds"] > 0
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert "online_knn_top1" in records[0] and "knn_top1" not in records[0]
    assert "detection_precision" in records[1] and "detection_precision" not in records[0]
    labels = np.load(workdir / "detection" / "0001.npz")["labels"]
    assert labels.shape == (2, 1438) and labels.dtype == np.int32
    encoder = tf.saved_model.load(str(workdir / "saved_model"))
    outputs = encoder.signatures["serving_default"](images=tf.zeros([2, 9, 11, 3], tf.uint8))
    assert outputs["embedding"].shape == (2, 8)
    assert list((workdir / "events").iterdir())
    assert "<svg" in (workdir / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "ln(1 + 64 negatives) = 4.17" in printed
    assert "raw pixels: kNN accuracy" in printed
    for phase in ("training", "embedding", "evaluating"):
        assert phase in printed, phase

    # The directory's own flags run it again: nothing is left to train.
    assert main.main([f"--flagfile={workdir / 'config.flags'}", "--mode=train"]) == 0
    assert "2 of 2 epochs done already" in capsys.readouterr().out
    # Other flags are refused, by name; those that do not change the result are not.
    message = error(capsys, f"--workdir={workdir}", "--learning_rate=0.5", "--mode=check")
    assert "--learning_rate (was '0.06', is '0.5')" in message
    assert "--mode" not in message and "--queue_size" not in message


@pytest.mark.slow
def test_a_folder_without_labels_trains_and_exports(tmp_path, capsys):
    save_images(tmp_path / "photos" / "a", 40)
    workdir = tmp_path / "run"
    code = run(
        f"--dataset=folder:{tmp_path / 'photos' / 'a'}", f"--workdir={workdir}",
        "--batch_size=16", "--queue_size=32", "--epochs=2", "--augmentation=moco_v2",
    )  # fmt: skip
    assert code == 0
    assert "evaluation: skipped, since the images have no labels" in capsys.readouterr().out
    results = json.loads((workdir / "results.json").read_text())
    assert "knn_top1" not in results and results["train_loss"] > 0
    assert (workdir / "saved_model" / "saved_model.pb").exists()


@pytest.mark.slow
def test_corrupt_images_are_listed_and_left_out(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        save_images(tmp_path / "data" / name, 30, seed)
    (tmp_path / "data" / "a" / "003.png").write_bytes(b"not a picture")
    arguments = [f"--dataset=folder:{tmp_path / 'data'}", "--mode=check", "--batch_size=16",
                 "--queue_size=32"]  # fmt: skip
    message = error(capsys, *arguments, f"--workdir={tmp_path / 'strict'}")
    assert "max_corrupt_share" in message
    workdir = tmp_path / "lenient"
    assert run(*arguments, f"--workdir={workdir}", "--max_corrupt_share=0.1") == 0
    rows = (workdir / "unreadable.tsv").read_text().splitlines()
    assert len(rows) == 2 and "003.png" in rows[1]
    assert "1 unreadable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning_rte=1"], ["learning_rte", "--help"]),
        (["--epochs=many"], ["epochs", "many"]),
        (["--epochs=0"], ["--epochs", ">= 1", "Received: 0"]),
        (["stray"], ["expected flags only", "stray"]),
        (["--flagfile=no/such.flags"], ["no/such.flags"]),
        (["--mode=train,fly"], ["--mode", "evaluate", "fly"]),
        (["--protocols=svm"], ["--protocols", "knn", "svm"]),
        (["--treatment=repel"], ["treatment", "repel"]),
        (["--queue_size=100"], ["--queue_size", "multiple of --batch_size=32", "try 96"]),
        (["--acceptance_start=0.9"], ["--acceptance_end", "0.9"]),
        (["--dataset=cats"], ["--dataset", "folder:PATH", "cats"]),
        (["--dataset=folder:/no/such/folder"], ["/no/such/folder"]),
        (["--detector=hope"], ["--detector", "oracle", "hope"]),
        (["--num_clusters=4,9999"], ["9999", "1438"]),
        (["--strategy=mirrored"], ["--strategy=mirrored"]),
        (
            ["--strategy=mirrored", "--batch_size=30", "--queue_size=60"],
            ["multiple of the 4", "32"],
        ),
        (["--strategy=tpu"], ["--tpu=NAME"]),
        (["--tpu=no-such-tpu"], ["--tpu", "no-such-tpu"]),
        (["--mode=export"], ["checkpoint", "--mode=train"]),
    ],
    ids=lambda value: value[0] if value and value[0].startswith(("-", "s")) else "",
)
def test_bad_input_is_answered_in_one_line(arguments, words, tmp_path, capsys, monkeypatch):
    if arguments == ["--strategy=mirrored"]:
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    message = error(capsys, f"--workdir={tmp_path / 'run'}", *arguments)
    for word in words:
        assert word in message


def test_a_worker_that_never_comes_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # not the checkout, where `make demo` leaves runs/digits
    ports = free_ports(2)
    task = {"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task | {"task": {"type": "worker", "index": 1}}))
    message = error(capsys, "--strategy=multiworker", "--worker_timeout_seconds=1")
    assert f"No answer from 127.0.0.1:{ports[0]};" in message


def test_an_empty_folder_and_a_bad_list(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "bad.txt").write_text("a.png\t1\nb.png\t2\textra\n")
    workdir = f"--workdir={tmp_path / 'run'}"
    assert "Received: none" in error(capsys, workdir, f"--dataset=folder:{tmp_path / 'empty'}")
    message = error(capsys, workdir, f"--dataset=list:{tmp_path / 'bad.txt'}")
    assert "line 2: " in message


def test_a_directory_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "choose another" in error(capsys, f"--workdir={tmp_path / 'file' / 'run'}")


def test_help_lists_every_setting(capsys):
    assert main.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for field in Config.__dataclass_fields__:
        assert f"  --{field}=" in printed


def test_later_flags_override_flagfiles(tmp_path):
    (tmp_path / "a.flags").write_text("--epochs=7\n--seed=3\n")
    (tmp_path / "b.flags").write_text(f"# notes\n--flagfile={tmp_path / 'a.flags'}\n--seed=4\n")
    config = main.parse_flagfile(str(tmp_path / "b.flags"), "--noscan_images")
    assert (config.epochs, config.seed, config.scan_images) == (7, 4, False)
    assert config.run_path == "runs/digits"


def test_config_checks_itself():
    with pytest.raises(UserError, match="--temperature: expected a value > 0"):
        Config(temperature=0.0)
