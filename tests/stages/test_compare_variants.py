"""What is compared: read from text, checked before anything runs."""

import pytest

import main
from ifnd_tf.config.variants import parse
from ifnd_tf.errors import UserError
from ifnd_tf.stages.compare_variants import members, trials
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


def test_rules_with_parameters_stay_in_their_treatment():
    assert parse(
        "a:treatment=eliminate,sce:lam=0.5:teacher_temperature=0.1;detector=ifnd,none,"
        "b:treatment=fnd,glofnd:learning_rate=0.1|sce:lam=1,sce:learning_rate=0.1,oracle"
    ) == {
        "a": {"treatment": "eliminate,sce:lam=0.5:teacher_temperature=0.1", "detector": "ifnd"},
        "none": {"detector": "none"},
        # learning_rate is a parameter of glofnd and a flag: sce has none of that name.
        "b": {"treatment": "fnd,glofnd:learning_rate=0.1|sce:lam=1"},
        "sce": {"learning_rate": "0.1"},
        "oracle": {"detector": "oracle"},
    }


def test_a_variant_may_have_the_name_of_a_rule_and_a_flag_of_its_parameter():
    found = parse(
        "fnd:detector=none;treatment=fnd,glofnd:learning_rate=0.03;treatment=glofnd,"
        "sce:teacher_temperature=0.1;--treatment=sce"
    )
    assert found == {
        "fnd": {"detector": "none", "treatment": "fnd"},
        "glofnd": {"learning_rate": "0.03", "treatment": "glofnd"},
        "sce": {"teacher_temperature": "0.1", "treatment": "sce"},
    }


def test_equal_alternatives_are_one():
    config = comparison(variants="a:temperature=0.1 | 0.1|0.2;detector=none,none")
    with pytest.raises(UserError, match="at least 3 combinations.*Received: 2 of a"):
        trials(config)


def test_a_variant_may_take_the_flags_of_a_file(tmp_path):
    path = tmp_path / "mine.flags"
    path.write_text("--experiment=mine\n--temperature=0.1\n--epochs=3\n")
    assert parse(f"none,mine:flagfile={path};epochs=2") == {
        "none": {"detector": "none"},
        "mine": {"temperature": "0.1", "epochs": "2"},
    }


def comparison(**settings):
    variants = (
        "none:temperature=0.2|0.1|0.3;detector=none,"
        "b:treatment=sce:lam=0.5|sce:lam=0.3;temperature=0.2|0.1|0.3"
    )
    given = {"variants": variants, "validation_share": 0.2, "tuning_trials": 3, **settings}
    return tiny.config(mode="compare", workdir="runs/x", seeds=1, **given)


def test_every_variant_has_as_many_trials_its_first_settings_among_them():
    found = trials(comparison(seed=4))
    assert [(t.variant, t.number) for t in found] == [
        ("none", 0), ("b", 0), ("none", 1), ("b", 1), ("none", 2), ("b", 2),
    ]  # fmt: skip
    assert found == trials(comparison(seed=4))
    assert {t.config.temperature for t in found if t.variant == "none"} == {0.1, 0.2, 0.3}
    drawn = [t for t in found if t.variant == "b"]
    assert dict(drawn[0].flags) == {"treatment": "sce:lam=0.5", "temperature": "0.2"}
    assert len({t.config for t in drawn}) == 3
    assert all((t.config.validation_share, t.config.seed) == (0.2, 4) for t in found)
    assert drawn[1].config.workdir == "runs/x/tuning/b-1" and drawn[1].title == "b, trial 1"
    assert trials(tiny.config(mode="compare")) == []


def test_runs_have_the_settings_that_were_chosen_and_all_training_images():
    config = comparison()
    first = {m.variant: m.config.temperature for m in members(config)}
    assert first == {"none": 0.2, "b": 0.2}
    chosen = {"b": {"treatment": "sce:lam=0.3", "temperature": "0.1"}}
    found = {m.variant: m.config for m in members(config, chosen)}
    assert found["none"].temperature == 0.2 and found["b"].temperature == 0.1
    assert found["b"].treatment == "sce:lam=0.3" and found["b"].workdir == "runs/x/b-0"
    assert all(each.validation_share == each.tuning_trials == 0 for each in found.values())
    # Without trials --validation_share stays: what is compared then is evaluated on it.
    plain = members(tiny.config(mode="compare", validation_share=0.2))
    assert {m.config.validation_share for m in plain} == {0.2}


def test_a_few_of_a_table():
    assert {m.variant for m in members(comparison(only_variants="b"))} == {"b"}
    with pytest.raises(
        UserError, match="--only_variants: expected names.*'nine'. Did you mean none"
    ):
        members(comparison(only_variants="b,nine"))


def test_unequal_budgets_are_refused():
    with pytest.raises(
        UserError, match="expected at least 3 combinations.*Received: 2 of few; add"
    ):
        trials(
            tiny.config(
                mode="compare", validation_share=0.2, tuning_trials=3,
                variants="few:temperature=0.1|0.2",
            )
        )  # fmt: skip
    with pytest.raises(UserError, match="--tuning_trials: expected --validation_share"):
        tiny.config(mode="compare", tuning_trials=2)


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
        ("a:temperature=0.1|warm", "a: --temperature: expected a number. Received: 'warm'"),
        ("a:tuning_trials=3", "--tuning_trials, which all variants share"),
        ("a:treatment=sce:lam=2", "a: --treatment=sce:lam: expected a value >= 0 and <= 1"),
        ("a:flagfile=gone.flags", "--flagfile: expected a file of flags"),
        ("a:threads=1", "--threads, which all variants share"),
        ("a:seed=3", "--seed, which all variants share"),
        ("a:temperature", "FLAG=VALUE;FLAG=VALUE after a:. Received: 'temperature'"),
        ("a/b:temperature=1", "letters, digits"),
        ("a:detector=none,b/c:detector=oracle", "letters, digits.*Received: 'b/c'"),
        ("a:detector=none,b c:detector=oracle", "letters, digits.*Received: 'b c'"),
        ("a:treatment=fnd,:temperature=0.1", "letters, digits.*Received: ''"),
        ("a:detector=none;detector=oracle", "a: expected every flag once.*detector=A|B"),
        ("a:protocols=knn", "--protocols, which all variants share"),
        ("a:validation_share=0.5", "--validation_share, which all variants share"),
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
