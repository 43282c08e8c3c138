"""What --help and docs/options.md say of every setting, and what mistyped input is answered."""

import dataclasses
import os
import runpy
import subprocess
import sys

import pytest

import main
from ifnd_tf.config import Config, help_text
from ifnd_tf.config.setting import describe_range, in_range
from ifnd_tf.errors import UserError, did_you_mean, did_you_mean_path

FIELDS = {field.name: field for field in dataclasses.fields(Config)}


def test_every_setting_is_explained_once_in_its_group():
    explained = [each for _, group in help_text.groups() for each in group]
    assert sorted(each.name for each in explained) == sorted(FIELDS)
    table = runpy.run_path("docs/hooks.py")["options"]()
    for each in explained:
        assert each.help.endswith(".") and len(each.help.split()) >= 3, each.name
        if each.kind.startswith(("integer", "number")):
            assert any(sign in each.kind for sign in "<>"), f"{each.name} has no range"
        assert each.kind in help_text.full() and f"`--{each.name}`" in table


def test_ranges_are_said_as_they_are_checked():
    field = FIELDS["key_momentum"]
    assert describe_range(field) == ">= 0 and < 1"
    assert in_range(field, 0) and not in_range(field, 1)
    assert not in_range(field, float("nan"))
    with pytest.raises(UserError, match=r"--key_momentum: expected a value >= 0 and < 1"):
        Config(key_momentum=1.0)


def test_the_short_help_fits_a_screen():
    lines = help_text.short().splitlines()
    assert len(lines) <= 23 and max(map(len, lines)) <= 80


@pytest.mark.parametrize("flag", ["--help", "--helpshort"])
def test_help_needs_no_tensorflow(flag):
    program = (
        f"import sys, main; main.main([{flag!r}]); assert 'tensorflow' not in sys.modules; "
        "assert 'keras' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=5)
    assert ran.returncode == 0 and "--dataset=" in ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning_rte=1"], "Did you mean --learning_rate?"),
        (["--treatment=eliminat"], "Did you mean eliminate?"),
        (["--mode=train,eval"], "Did you mean evaluate?"),
        (["--flagfile={tmp}/mistyped.flags"], "Did you mean --batch_size?"),
        (["--flagfile={tmp}/mistype.flags"], "Did you mean {tmp}/mistyped.flags?"),
        (["{tmp}"], "Did you mean --dataset=folder:{tmp}?"),
        (["--epochs"], "--epochs"),
    ],
)
def test_a_mistyped_word_is_corrected(arguments, words, tmp_path):
    (tmp_path / "mistyped.flags").write_text("--batchsize=3\n")
    with pytest.raises(UserError) as caught:
        main.parse([argument.format(tmp=tmp_path) for argument in arguments])
    assert words.format(tmp=tmp_path) in str(caught.value)


def test_only_near_words_are_offered(tmp_path, monkeypatch):
    assert did_you_mean("trian", ["train", "export"]) == " Did you mean train?"
    assert did_you_mean("fly", ["train", "export"]) == ""
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert did_you_mean_path("fotos/cats") == f" Did you mean {os.path.join('photos', 'cats')}?"
    assert did_you_mean_path(f"{tmp_path}/photo") == f" Did you mean {tmp_path}/photos?"
    assert did_you_mean_path("elsewhere") == f" It was looked for in {tmp_path}."
    assert did_you_mean_path("gs://bucket/photos") == ""
