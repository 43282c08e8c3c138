"""First tries that are wrong, answered at once by a message that leads to the right command."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ifnd_tf import command_line
from ifnd_tf.config import Config, flagfile, help_text
from ifnd_tf.config.run import STAGES
from ifnd_tf.data import dataset_name
from ifnd_tf.errors import UserError

pytestmark = pytest.mark.cases
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch) -> pathlib.Path:
    """A working directory with a few things in it that are no data sets, and one that is."""
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full([8, 8, 3], i, np.uint8)).save(photos / name / f"{i}.png")
    (tmp_path / "photos.zip").write_bytes(b"PK\3\4")
    (tmp_path / "photos.tar.gz").write_bytes(b"\x1f\x8b")
    Image.fromarray(np.zeros([8, 8, 3], np.uint8)).save(tmp_path / "one.jpg")
    (tmp_path / "list.txt").write_text("photos/cat/0.png\ta\nphotos/dog/0.png\tb\n")
    (tmp_path / "labels.csv").write_text("path,label\nphotos/cat/0.png,cat\n")
    (tmp_path / "missing.txt").write_text("\ncat/9.png\ta\ndog/9.png\tb\n")
    image = "photos/cat/0.png"
    (tmp_path / "semicolon.csv").write_text(f"{image};cat\n")
    (tmp_path / "space.txt").write_text(f"{image} cat\n")
    (tmp_path / "quoted.txt").write_text(f'"{image}"\t"cat"\n')
    (tmp_path / "header.tsv").write_text(f"path\tlabel\n{image}\tcat\n")
    (tmp_path / "wide.txt").write_bytes(f"{image}\tcat\r\n".encode("utf-16"))
    (tmp_path / "mac.txt").write_text(f"{image}\tcat\r{image}\tdog\r")
    (tmp_path / "blank.txt").write_text("\n\n")
    (tmp_path / "folders.txt").write_text("photos/cat\ta\nphotos/dog\tb\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "1.CR2").write_bytes(b"II*\0" + bytes(40))
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "my.flags").write_text("--epochs=3\n")
    (tmp_path / "empty.parquet").touch()
    pq.write_table(pa.table({"image": ["0.png"]}), tmp_path / "names.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "none.parquet")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / "hub" / "data" / "train.parquet").touch()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.flags").write_text(
        "--epochs=7\n--dataset=folder:photos\n--width=16\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# The arguments, and words that the answer must hold, the right command among them.
WRONG = {
    "--dataset=photos": ["--dataset=folder:photos"],
    "--dataset=./photos": ["--dataset=folder:./photos"],
    "--dataset=~/photos": ["--dataset=folder:~/photos"],
    "--dataset=hub": ["--dataset=folder:hub"],
    "--dataset=folder:hub": ["'parquet:hub/**/*.parquet'"],
    "--dataset=list.txt": ["--dataset=list:list.txt"],
    "--dataset=photos.zip": ["Unpack the archive"],
    "--dataset=folder:photos.zip": ["which is a file", "Unpack the archive"],
    "--dataset=list:photos.tar.gz": ["Unpack the archive"],
    "--dataset=https://example.org/photos.zip": ["Nothing is downloaded here"],
    "--dataset=folder:https://example.org/cats": ["--dataset: expected a path", "download"],
    "--dataset=hf:me/cats": ["'parquet:FOLDER/**/*.parquet'"],
    "--dataset=cifar11": ["Did you mean --dataset=tfds:cifar10?"],
    "--dataset=list:labels.csv": ["labels.csv, line 1: expected paths", "a tab, not a comma"],
    "--dataset=list:missing.txt --data_dir=photos": ["missing.txt, line 2", "'cat/9.png'"],
    "folder:photos": ["Did you mean --dataset=folder:photos?"],
    "--gpu=1": ["Did you mean --strategy?"],
    "--mode=evaluate --saved_model=saved": ["no saved_model.pb", "Did you mean saved_model?"],
    "--mode=report --workdir=photos": ["config.flags", "train first"],
    "--workdir=list.txt": ["a directory that can be written", "list.txt is a file"],
    "--dataset=one.jpg": ["one image", "--dataset=folder:."],
    "--dataset=folder:one.jpg": ["one image", "--dataset=folder:."],
    "--dataset=folder:photso": ["Did you mean --dataset=folder:photos?"],
    "--dataset=folder:photos/cat/*.png": ["Did you mean --dataset=folder:photos/cat?", "pattern"],
    "--dataset=gs://bucket/photos": ["Did you mean --dataset=folder:gs://bucket/photos?"],
    "--dataset=folder:raw": ["Received: none, but 1 .cr2", "export raw photos as JPEG"],
    "--dataset=list:semicolon.csv": ["a tab, not a semicolon"],
    "--dataset=list:space.txt": ["a tab, not a space"],
    "--dataset=list:quoted.txt": ["without quotes"],
    "--dataset=list:header.tsv": ["line 1", "'path', a column's name"],
    "--dataset=list:wide.txt": ["Save the list as UTF-8"],
    "--dataset=list:mac.txt": ["line ends of Unix or Windows"],
    "--dataset=list:blank.txt": ["an empty list"],
    "--dataset=list:folders.txt": ["'photos/cat', which is no file there"],
    "\u2014epochs=3": ["Did you mean --epochs=3?"],
    "\u2013-epochs=3": ["Did you mean --epochs=3?"],
    "help": ["Did you mean --help?"],
    "-h=epoch": ["Did you mean epochs?"],
    "--preset=photos --dataset=folder:photos --mode=embed": ["run --mode=train first"],
    "--preset=photos --dataset=folder:photos --mode=evaluate": ["run --mode=train first"],
    "--dataset=folder:list.txt": ["--dataset=list:list.txt"],
    "--dataset=list:photos": ["--dataset=folder:photos"],
    "--dataset=cifar10": ["--dataset=tfds:cifar10"],
    "--dataset=CIFAR-10": ["--dataset=tfds:cifar10"],
    "--dataset=imagenet": ["--dataset=tfds:imagenet2012"],
    "--dataset=tfds:": ["tfds:NAME"],
    "--dataset=digit": ["Did you mean digits?"],
    "--dataset=": ["folder:PATH"],
    "--dataset=tfds:cifar99 --data_dir=.": ["a name that tfds knows", "Did you mean cifar10"],
    "--dataset=tfds:mnist --data_dir=.": ["Received: none there", "download_and_prepare"],
    "--train_split=half": ["--train_split: expected train", "'half'"],
    "--dataset=list:list.txt --train_split=a": ["--train_split: expected train"],
    "--dataset=digits --eval_split=a": ["--eval_split: expected none", "--holdout_share"],
    "--detector=infd": ["--detector: expected one of", "Did you mean ifnd?"],
    "--num_clusters=10,many": ["--num_clusters: expected whole numbers", "'many'"],
    "--dataset=parquet:photos": ["a folder with 0", "'parquet:photos/*.parquet'"],
    "--dataset=a.parquet": ["--dataset=parquet:a.parquet"],
    "--dataset=parquet:photos/*.parquet": ["which matches none", "'parquet:data/*.parquet'"],
    "--dataset=parquet:empty.parquet": ["empty.parquet (an empty file)", "mend or remove"],
    "--dataset=parquet:names.parquet": ["image (string)", "--dataset=list:FILE"],
    "--embed_dataset=parquet:none.parquet": ["--embed_dataset=", "expected rows", "none in 1 file"],
    "--dataset=Folder:photos": ["--dataset=folder:photos"],
    "--dataset=./photso": ["--dataset=folder:"],
    "--dataset=folder:src": ["Received: none, but 1 .py"],
    "--mode=embed --workdir=rum": ["--mode=train first", "Did you mean run?"],
    "--transfer_dataset=photos": ["--transfer_dataset=folder:photos"],
    "--embed_dataset=folder:nowhere": ["--embed_dataset", "nowhere"],
    "check": ["--mode=check"],
    "photos": ["--dataset=folder:photos"],
    "my.flags": ["--flagfile=my.flags"],
    "cifar10": ["--preset=cifar10"],
    "--flagfile=photos.flags": ["--preset=photos"],
    "--flagfile=my.flag": ["Did you mean my.flags?"],
    "--mode=compare --variants=none,ifdn": ["expected a detector", "Did you mean ifnd?"],
    "--mode=compare --variants=none,a:treatment=eliminate,sce:lam=2": ["a: --treatment=sce:lam"],
    "--mode=compare --tuning_trials=2": ["--validation_share"],
    "--mode=compare --tuning_trials=2 --validation_share=0.2": ["2 combinations", "none"],
    "--mode=compare --only_variants=infd": ["Did you mean ifnd?"],
    "--mode=compare --jobs=-1": ["--jobs: expected a value >= 0"],
    "--preset=photo": ["Did you mean photos?"],
    "--preset=my.flags": ["--flagfile=my.flags"],
    "--presets=photos": ["--preset"],
    "--epoch=3": ["--epochs"],
    "--lr=0.1": ["--learning_rate"],
    "--epochs=ten": ["--epochs: expected a whole number", "'ten'"],
    "--backbone=resnet9000": ["--backbone: expected one of", "resnet18"],
    "--mode=traim": ["Did you mean train?"],
    "--help=backbones": ["Did you mean backbone?"],
    "--mode=evaluate --workdir=run --dataset=folder:photos/cat": [
        "own flags",
        "--transfer_dataset=folder:photos/cat evaluates",
    ],
    "--mode=embed --workdir=run --dataset=list:list.txt": ["--embed_dataset=list:list.txt embeds"],
    "--mode=evaluate --dataset=folder:photos": [
        "another encoder by --saved_model.",
        "--transfer_dataset=folder:photos evaluates",
    ],
    "--mode=check --workdir=run --epochs=9": ["To check that run, leave out", "another --workdir"],
    "--help=embedd": ["Did you mean embed?"],
    "--mode=embed --dataset=folder:photos": ["--saved_model, --embeddings or --init_from"],
    "--mode=export --dataset=folder:photos": ["run --mode=train first."],
    "--mode=embed --init_from=run": ["--dataset=", "--mode=embed --workdir=run"],
    "--workdir=run --epochs=9": ["--epochs (was '7', is '9')", "--flagfile=run/config.flags"],
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_first_try_is_led_to_the_right_command(arguments, here, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "execute", lambda config: pytest.fail("it ran"))
    assert command_line.main(arguments.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for word in WRONG[arguments]:
        assert word in line


def test_answers_need_no_tensorflow(here):
    program = (
        "import sys\n"
        "from ifnd_tf import command_line\n"
        "sys.stderr = open('answers', 'w')\n"
        f"assert all(command_line.main(each.split()) == 1 for each in {list(WRONG)!r})\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )  # fmt: skip


def test_one_flag_is_explained(capsys):
    assert command_line.main(["--help=queue_size"]) == 0
    assert "--queue_size=" in capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES)
def test_the_flags_of_a_stage_are_explained(stage, capsys):
    assert command_line.main([f"--help={stage}"]) == 0
    text = capsys.readouterr().out
    assert all(f"  --{flag}=" in text for flag in help_text.STAGE_FLAGS[stage])
    for flag in (field.name for field in dataclasses.fields(Config)):
        if stage == "embed" and (flag.startswith("embed") or flag == "duplicate_similarity"):
            assert f"  --{flag}=" in text


def test_flagfiles_are_relative_to_the_one_that_includes_them(here, monkeypatch):
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "b" / "base.flags").write_text("--epochs=5\n--seed=1\n")
    (here / "a" / "own.flags").write_text("// mine\n--flagfile=b/base.flags\n--seed=2\n")
    config = command_line.parse(["--flagfile=a/own.flags", "--batch_size=16"])
    assert (config.epochs, config.seed, config.batch_size) == (5, 2, 16)
    (here / "a" / "b" / "base.flags").write_text("--flagfile=../own.flags\n")
    with pytest.raises(UserError, match="include each other in a circle"):
        command_line.parse(["--flagfile=a/own.flags"])


def test_a_preset_overrides_no_flag_whichever_comes_first(here):
    first = command_line.parse(["--preset=photos", "--dataset=folder:photos", "--epochs=3"])
    for arguments in (
        ["--dataset=folder:photos", "--epochs=3", "--preset=photos"],
        ["--dataset=folder:photos", "--preset", "photos", "--epochs=3"],
    ):
        assert command_line.parse(arguments) == first
    assert first.epochs == 3


def test_what_is_not_trained_here_has_a_directory_of_its_own(here):
    plain = command_line.parse(["--dataset=folder:photos"]).run_path
    embed = ["--mode=embed", "--dataset=folder:photos"]
    assert command_line.parse([*embed, "--saved_model=m"]).run_path == f"{plain}-saved_model"
    assert command_line.parse([*embed, "--embeddings=e.npz"]).run_path == f"{plain}-embeddings"


def test_a_flagfile_with_a_byte_order_mark_is_read(here):
    (here / "my.flags").write_text("--epochs=4\n", encoding="utf-8-sig")
    assert command_line.parse(["--flagfile", "my.flags"]).epochs == 4
    (here / "my.flags").write_bytes(b"--epochs=\xff\n")
    with pytest.raises(UserError, match="expected text in UTF-8"):
        command_line.parse(["--flagfile=my.flags"])


def test_presets_are_reached_from_anywhere(here):
    config = command_line.parse(["--preset=photos", "--dataset=folder:photos"])
    assert config.augmentation == "moco_v2"
    assert "imagenet" in flagfile.presets() and "base" not in flagfile.presets()


@pytest.mark.parametrize("mode", ["embed", "report", "evaluate", "export", "check"])
def test_a_stage_takes_the_settings_of_its_run(mode, here):
    config = command_line.parse([f"--mode={mode}", "--workdir=run", "--seed=3"])
    assert (config.epochs, config.dataset, config.seed) == (7, "folder:photos", 3)
    assert config.stages == (mode,) and config.run_path == "run"
    # Training never does: a directory's flags are compared, not taken.
    assert command_line.parse(["--workdir=run"]).epochs == Config().epochs


def test_what_was_asked_of_one_command_is_not_repeated(here):
    flags = here / "run" / "config.flags"
    once = ["--embed_folders=link", "--embed_diverse=5"]
    flags.write_text("\n".join([flags.read_text(), *once, "--embed_clusters=3"]))
    config = command_line.parse(["--mode=embed", "--workdir=run"])
    assert (config.embed_folders, config.embed_diverse, config.embed_clusters) == ("none", 0, 3)
    config = command_line.parse(["--mode=embed", "--workdir=run", *once])
    assert (config.embed_folders, config.embed_diverse) == ("link", 5)
    assert not {"embed_folders", "embed_diverse"} & set(config.as_flags())


def test_embedding_takes_the_encoder_of_the_start_as_its_run_had_it(here):
    network = {"backbone": "resnet_tiny", "width": "4", "stem": "stride2", "image_size": "24",
               "projection_dim": "8", "background": "black"}  # fmt: skip
    with (here / "run" / "config.flags").open("a") as file:
        file.writelines(f"--{name}={value}\n" for name, value in network.items())
    (here / "run" / "saved_model").mkdir()
    embed = ["--mode=embed", "--dataset=folder:photos"]
    for start in ("run", f"{here}/run/", "run/encoder.keras", "run/saved_model/"):
        flags = command_line.parse([*embed, f"--init_from={start}", "--stem=auto"]).as_flags()
        assert network.items() <= flags.items()
        assert (flags["epochs"], flags["dataset"]) == (str(Config().epochs), "folder:photos")
    assert command_line.parse([*embed, "--init_from=run", "--width=8"]).width == 8
    # Training may start another network from it.
    assert command_line.parse(["--dataset=folder:photos", "--init_from=run"]).width == 16


def test_a_new_run_has_another_directory_than_its_start(here):
    (here / "runs").mkdir()
    (here / "run").rename(here / "runs" / "photos")
    for mode in ("train", "embed"):
        arguments = [f"--mode={mode}", "--dataset=folder:photos", "--init_from=./runs/photos"]
        assert command_line.parse(arguments).run_path == "runs/photos-2"


def test_data_sets_of_one_name_have_directories_of_their_own(here):
    (here / "runs" / "photos").mkdir(parents=True)
    flags = here / "runs" / "photos" / "config.flags"
    flags.write_text(f"--dataset=folder:{here}/photos/\n")
    for spelling in ("photos", "./photos", "photos/"):
        assert command_line.parse([f"--dataset=folder:{spelling}"]).run_path == "runs/photos"
    (here / "b" / "photos").mkdir(parents=True)
    assert command_line.parse(["--dataset=folder:b/photos"]).run_path == "runs/photos-2"
    own = command_line.parse(["--dataset=folder:b/photos", "--workdir=runs/photos"])
    assert own.run_path == "runs/photos"


def test_contradictions_of_what_was_trained_alone_are_refused(here, capsys, monkeypatch):
    ran = []
    monkeypatch.setattr(command_line, "execute", ran.append)
    assert command_line.main(["--mode=evaluate", "--workdir=run", "--knn_neighbors=3"]) == 0
    assert ran[0].knn_neighbors == 3
    assert command_line.main(["--mode=evaluate", "--workdir=run", "--epochs=8"]) == 1
    assert "--epochs (was '7', is '8')" in capsys.readouterr().err


@pytest.mark.parametrize(
    "dataset, name",
    [
        ("digits", "digits"),
        ("folder:/data/My photos/", "My photos"),
        ("folder:gs://bucket/birds", "birds"),
        ("list:/data/train.txt", "train"),
        ("tfds:cifar10", "cifar10"),
        ("tfds:imagenet_resized/32x32:1.0.0", "imagenet_resized_32x32"),
        ("parquet:/data/imagenet/*.parquet", "imagenet"),
    ],
)
def test_the_run_directory_follows_the_data_set(dataset, name):
    assert Config(dataset=dataset).run_path == f"runs/{name}"
    assert Config(dataset=dataset, experiment="mine").run_path == "runs/mine"


def test_a_comparison_has_a_directory_beside_that_of_a_run():
    assert Config(dataset="folder:photos", mode="compare").run_path == "runs/photos-compare"
    named = Config(dataset="folder:photos", mode="compare", experiment="mine")
    assert named.run_path == "runs/mine"


def test_the_home_directory_may_be_short(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert Config(workdir="~/runs/a").run_path == "/home/me/runs/a"


def test_a_folder_that_may_not_be_listed_gives_no_advice(here, capsys, monkeypatch):
    """By a stand-in for the system's answer, which root never gets."""

    def listdir(path="."):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", listdir)
    assert command_line.main([f"--dataset=folder:{here}/nothing"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_folders_without_permission_to_read_are_named(here, capsys, monkeypatch):
    """By a stand-in for the system's answer, which root never gets."""
    (here / "mine" / "private").mkdir(parents=True)
    scandir = os.scandir

    def guarded(path="."):
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert command_line.main(["--dataset=folder:mine"]) == 1
    assert "none, but mine/private (Permission denied)." in capsys.readouterr().err
    assert command_line.main(["--dataset=folder:mine/private"]) == 1
    assert "but mine/private (Permission denied)." in capsys.readouterr().err


def test_links_in_circles_end(here, capsys):
    loops = here / "loops"
    loops.mkdir()
    for name in ("a", "b", "c"):  # 3 ** 40 paths before the system gives up
        (loops / name).symlink_to(loops)
    (loops / "notes.txt").touch()
    assert command_line.main(["--dataset=folder:loops"]) == 1
    assert "none, but 1 .txt." in capsys.readouterr().err


def test_hidden_images_are_none(here, capsys):
    """As find_files has it: the shadows that macOS leaves in archives and on other disks."""
    (here / "shadows" / "__MACOSX").mkdir(parents=True)
    (here / "shadows" / "__MACOSX" / "_1.jpg").touch()
    (here / "shadows" / "._1.jpg").touch()
    assert command_line.main(["--dataset=folder:shadows"]) == 1
    assert "Received: none. " in capsys.readouterr().err


def test_a_walk_through_very_many_files_is_left_to_the_run(here):
    for number in range(10_000):
        (here / "src" / f"{number}.txt").touch()
    dataset_name.check_name("dataset", "folder:src")  # 10,001 files, none an image
    (here / "src" / "0.txt").unlink()
    with pytest.raises(UserError, match="expected image files"):
        dataset_name.check_name("dataset", "folder:src")


@pytest.mark.parametrize(
    ("flags", "kept", "then"),
    [
        ([], ["checkpoints/0000000002"], "continues from the last checkpoint"),
        ([], [], "begins again"),
        (["--mode=check"], ["checkpoints/0000000002"], "begins again"),
        (["--mode=compare"], [], "continues from the last checkpoint"),
    ],
)
def test_a_stop_says_what_the_same_command_will_do(flags, kept, then, here, capsys, monkeypatch):
    def stopped(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "execute", stopped)
    for folder in kept:
        (here / "new" / folder).mkdir(parents=True)
    assert command_line.main(["--workdir=new", *flags]) == 130
    assert capsys.readouterr().err == f"stopped; the same command {then}\n"


def test_a_disk_that_cannot_be_written_is_named(here, capsys, monkeypatch):
    """By a stand-in for the system's answer, which root gets for a read-only disk alone."""
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("read_only"))
    (here / "read_only").mkdir()
    assert command_line.main(["--workdir=read_only/runs/x"]) == 1
    answer = capsys.readouterr().err
    assert "'read_only/runs/x'" in answer and f"write to {here / 'read_only'}, or" in answer
