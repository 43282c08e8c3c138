"""`--treatment`: names and parameters are checked before TensorFlow is imported."""

import dataclasses
import subprocess
import sys

import pytest

import main
from ifnd_tf.config import treatments
from ifnd_tf.config.treatments import declared, names, parse
from ifnd_tf.errors import UserError
from ifnd_tf.models.treatments import rule_class, rules


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--treatment="], "comma list of"),
        (["--treatment=eliminat"], "Did you mean eliminate?"),
        (["--treatment=eliminate,eliminate"], "'eliminate' twice"),
        (["--treatment=none,eliminate"], "none alone"),
        (["--treatment=eliminate:strength=1"], "no parameters"),
        (["--treatment=sce:lambda=1"], "Did you mean lam?"),
        (["--treatment=sce:lam"], "lam: expected a number. Received: ''"),
        (["--treatment=sce:lam=half"], "lam: expected a number. Received: 'half'"),
        (["--treatment=sce:lam=1.5"], "lam: expected a value >= 0 and <= 1. Received: 1.5"),
        (["--treatment=fnd:alpha=1"], "alpha: expected a value >= 0 and < 1"),
        (["--treatment=fnd:rescale=yes"], "expected true or false"),
        (["--treatment=debiased:positive_prior=-0.1"], "expected a value >= 0 and < 1"),
        (["--treatment=attract,sce"], "attract and sce, which exclude each other"),
        (["--treatment=debiased,hcl"], "debiased and hcl, which exclude each other"),
        (["--treatment=nnclr", "--framework=simclr"], "nnclr: expected --framework=moco"),
        (["--treatment=fnc", "--framework=simclr"], "fnc: expected --framework=moco"),
        (["--treatment=wcl", "--framework=moco"], "wcl: expected --framework=simclr"),
        (["--treatment=hcsc", "--detector=none"], "hcsc: expected a --detector"),
        (["--treatment=hcsc", "--level_combination=union"], "hcsc: expected --level_combination"),
        (["--treatment=fnc:threshold=1.1"], "threshold: expected a value >= 0 and <= 1"),
        (["--treatment=fnc,attract"], "fnc and attract, which exclude each other"),
    ],
)
def test_a_wrong_flag_is_answered_in_one_line(flags, words):
    with pytest.raises(UserError, match=words) as caught:
        main.parse(flags)
    assert str(caught.value).startswith("--treatment") and "\n" not in str(caught.value)


def test_a_wrong_parameter_is_answered_without_tensorflow():
    program = (
        "import sys, main; assert main.main(['--treatment=eliminate:x=1']) == 1; "
        "assert 'tensorflow' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0 and "--treatment=eliminate" in ran.stderr, ran.stderr


@pytest.mark.parametrize("text", ["sce : lam = 0.5", "sce:lam=0.5"])
def test_spaces_change_nothing(text):
    assert parse(text) == {"sce": {"lam": 0.5}}


def test_what_no_rule_can_hold_is_refused():
    with pytest.raises(UserError, match="every parameter once. Received: 'lam' twice"):
        parse("sce:lam=0.5:lam=0.3")
    with pytest.raises(UserError, match="teacher_temperature: expected a finite number"):
        parse("sce:teacher_temperature=inf")
    with pytest.raises(UserError, match="an inner share below the outer. Received: inner=0.5"):
        rules("ring:inner=0.5:outer=0.1")


def test_a_rules_parts_may_be_annotated(tmp_path, monkeypatch):
    monkeypatch.setattr(treatments, "FOLDER", tmp_path)
    treatments.declared.cache_clear()
    (tmp_path / "own.py").write_text(
        'class Own(Rule):\n    sets: ClassVar[tuple[str, ...]] = ("sum",)\n    needs = ("queue",)\n'
    )
    (tmp_path / "two.py").write_text("class A(Rule): pass\nclass B(Rule): pass\n")
    assert treatments.declared("own")[1:] == (("sum",), ("queue",))
    with pytest.raises(ValueError, match="expected one class that extends Rule. Received: 2"):
        treatments.declared("two")
    treatments.declared.cache_clear()


def test_the_order_and_the_values_are_those_given():
    found = parse("sce:lam=0.2 , eliminate,hcl:gradient=false")
    assert found == {"sce": {"lam": 0.2}, "eliminate": {}, "hcl": {"gradient": False}}
    assert list(found) == ["sce", "eliminate", "hcl"]


def test_pairs_of_neighbours_need_the_union():
    with pytest.raises(UserError, match="--level_combination=union"):
        main.parse(["--detector=neighbours"])


@pytest.mark.parametrize("name", names())
def test_what_is_read_from_the_file_is_what_the_class_has(name):
    found, made = declared(name), rule_class(name)
    fields = {field.name: field for field in dataclasses.fields(made)}
    assert found.parameters.keys() == fields.keys()
    for parameter, (kind, field) in found.parameters.items():
        assert fields[parameter].default == field.default
        assert fields[parameter].metadata == field.metadata
        assert isinstance(field.default, kind)
    assert (found.sets, found.needs) == (made.sets, made.needs)
