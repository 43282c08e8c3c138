"""What is compared: read from text, checked before anything runs."""

import pytest

import main
from ifnd_tf.errors import UserError
from ifnd_tf.stages.compare_variants import members, parse
from tests import tiny


def test_detectors_and_named_overrides():
    assert parse("none, cold:temperature=0.1;--detector=none,oracle") == {
        "none": {"detector": "none"},
        "cold": {"temperature": "0.1", "detector": "none"},
        "oracle": {"detector": "oracle"},
    }


def test_a_comma_inside_a_value_belongs_to_it():
    assert parse("few:num_clusters=10,20;stem=stride2,many:num_clusters=40,80,random,as_is:") == {
        "few": {"num_clusters": "10,20", "stem": "stride2"},
        "many": {"num_clusters": "40,80"},
        "random": {"detector": "random"},
        "as_is": {},
    }


def test_every_variant_runs_with_a_seed_before_the_next_seed():
    config = tiny.config(
        mode="compare", variants="none,sharp:temperature=0.1;rescale_negatives=true", seeds=2,
        seed=5, workdir="runs/x",
    )  # fmt: skip
    found = members(config)
    assert [(m.variant, m.number, m.config.seed) for m in found] == [
        ("none", 5, 5), ("sharp", 5, 5), ("none", 6, 6), ("sharp", 6, 6),
    ]  # fmt: skip
    assert found[3].config.workdir == "runs/x/sharp-6"
    assert found[3].config.temperature == 0.1 and found[3].config.rescale_negatives is True
    assert found[2].config.detector == "none" and found[2].config.temperature == 0.2
    # A run's own config.flags trains and evaluates that run, and compares nothing.
    assert found[0].config.stages == ("train", "evaluate", "export", "report")


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("", "at least one"),
        ("none,ifdn", "expected a detector.*'ifdn'. Did you mean ifnd"),
        ("none,ifnd,none", "every name once.*'none' twice.*--variants="),
        ("a:temperature=0.1,b:temperature=0.1", "differ.*'a' and 'b' with the same settings"),
        ("ifnd,same:detector=ifnd", "'ifnd' and 'same'"),
        ("a:temprature=0.1", "a: --temprature: no such flag. Did you mean temperature"),
        ("a:temperature=warm", "a: --temperature: expected a number. Received: 'warm'"),
        ("a:rescale_negatives=yes", "expected true or false"),
        ("a:temperature=-1", "a: --temperature: expected a value > 0"),
        ("a:detector=psychic", "expected one of ifnd, neighbours"),
        ("a:seed=3", "--seed, which is the comparison's own"),
        ("a:temperature", "FLAG=VALUE;FLAG=VALUE after a:. Received: 'temperature'"),
        ("a/b:temperature=1", "letters, digits"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(variants, message):
    with pytest.raises(UserError, match=message) as error:
        members(tiny.config(mode="compare", variants=variants))
    assert "\n" not in str(error.value)


def test_a_flagfile_holds_one_variant_a_line(tmp_path):
    path = tmp_path / "x.flags"
    path.write_text("--variants=none\n--variants=few:num_clusters=10,20\n--variants=oracle\n")
    config = main.parse_flagfile(str(path))
    assert list(parse(config.variants)) == ["none", "few", "oracle"]
    more = main.parse_flagfile(str(path), "--variants=random")
    assert list(parse(more.variants))[-2:] == ["oracle", "random"]
    other = main.parse_flagfile(str(path), "--variants=", "--variants=ifnd")
    assert list(parse(other.variants)) == ["ifnd"]
