"""Recipes: numbers as people write them, names as sums, lengths in proportion, and refusals that name the cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rb_smooth.config import resolver, yaml
from rb_smooth.config.overrides import resolve_config, scale_epochs
from rb_smooth.config.sections import SECTIONS
from rb_smooth.core.errors import UserError
from rb_smooth.training import validate
from rb_smooth.training.run_folder.run import Run, run_path


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """A folder of its own with ./recipes/toy, before the shipped recipes."""
    monkeypatch.chdir(tmp_path)
    toy = Path("recipes/toy")
    toy.mkdir(parents=True)
    base = Path(__file__).parents[1] / "recipes" / "digits" / "at.yaml"
    (toy / "at.yaml").write_text(base.read_text())
    (toy / "+awp.yaml").write_text("# awp\nperturbation: {name: awp, gamma: 0.01}\n")
    (toy / "+ensgd.yaml").write_text("optimizer: {name: entropy_sgd, lr: 1.0}\n")
    (toy / "+slow.yaml").write_text("optimizer: {name: sgd, lr: 0.001}\n")
    (toy / "-l2.yaml").write_text("objective: {norm: L2, eps: 0.5, step_size: 0.1}\n")
    (toy / "at+awp+ensgd.yaml").write_text("perturbation: {gamma: 0.005}\n")
    return toy


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("5e-4", 5e-4),
        ("1e-20", 1e-20),
        ("-2E3", -2000.0),
        ("0.1", 0.1),
        ("3", 3),
        ("'5e-4'", "5e-4"),
        ("a/b", "a/b"),
    ],
)
def test_fractions_and_powers_of_ten_are_numbers(text, value):
    read = yaml.parse_yaml(text, "here")
    assert read == value
    assert type(read) is type(value)


def test_dumped_sections_read_back_equal():
    sections = {"name": "x/y", "a": {"eps": 8 / 255, "lr": 5e-4, "p": 0.2, "s": "8/255", "n": None}, "b": [{"c": 1.0}]}
    assert yaml.parse_yaml(yaml.dump_sections(sections), "here") == sections
    assert "8/255" in yaml.dump_sections({"eps": 8 / 255})


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "{a: 1", "1/0"])
def test_unsafe_or_invalid_yaml_is_reported_in_one_line(text):
    with pytest.raises(UserError, match="expected YAML in here") as refused:
        yaml.parse_yaml(text, "here")
    assert "\n" not in str(refused.value)


def test_a_name_is_the_sum_of_its_files_in_one_order(kitchen):
    name, sections = resolver.resolve_method("toy", "at-l2+ensgd")
    assert name == "at+ensgd-l2"
    assert sections["optimizer"] == {"name": "entropy_sgd", "lr": 1.0}  # a section with another name replaces the whole
    assert sections["objective"]["norm"] == "L2"  # one without a name changes the keys it lists
    assert sections["objective"]["steps"] == 10


def test_a_file_of_the_full_name_wins_over_the_sum_however_it_is_typed(kitchen):
    for typed in ("at+awp+ensgd", "at+ensgd+awp"):
        assert resolver.resolve_method("toy", typed)[1]["perturbation"]["gamma"] == 0.005
    assert resolver.resolve_method("toy", "at+awp+ensgd-l2")[1]["perturbation"]["gamma"] == 0.005
    assert resolver.resolve_method("toy", "at+awp")[1]["perturbation"]["gamma"] == 0.01


def test_two_parts_for_one_section_are_refused(kitchen):
    with pytest.raises(UserError, match=r"\+ensgd and \+slow for the optimizer"):
        resolver.resolve_method("toy", "at+ensgd+slow")
    assert "at+ensgd+slow" not in resolver.list_methods("toy")
    assert "at+awp+ensgd-l2" in resolver.list_methods("toy")


def test_a_part_extends_only_the_bases_that_it_lists(kitchen):
    (kitchen / "-l2.yaml").write_text("bases: [other, more]\nobjective: {norm: L2, eps: 0.5, step_size: 0.1}\n")
    with pytest.raises(UserError, match="expected -l2 with other or more, got at"):
        resolver.resolve_method("toy", "at-l2")
    assert "at-l2" not in resolver.list_methods("toy")
    (kitchen / "other.yaml").write_text((kitchen / "at.yaml").read_text())
    assert resolver.resolve_method("toy", "other-l2")[1].keys() == set(SECTIONS)


def test_a_part_whose_bases_have_parts_extends_only_methods_that_contain_them(kitchen):
    (kitchen / "-tuned.yaml").write_text("# tuned\nbases: [at+awp]\n")
    (kitchen / "at+awp-tuned.yaml").write_text("perturbation: {gamma: 0.3}\n")
    for typed in ("at+awp-tuned", "at-tuned+awp", "at-tuned-l2+awp"):
        name, sections = resolver.resolve_method("toy", typed)
        assert name.endswith("-tuned")
        assert sections["perturbation"]["gamma"] == 0.3
    with pytest.raises(UserError, match=r"expected -tuned with at\+awp, got at\+ensgd"):
        resolver.resolve_method("toy", "at+ensgd-tuned")
    assert "at+awp-l2-tuned" in resolver.list_methods("toy")
    assert "at-tuned" not in resolver.list_methods("toy")


def test_two_combinations_of_one_section_conflict_until_a_longer_one_overrides_both(kitchen):
    (kitchen / "at+awp-l2.yaml").write_text("perturbation: {gamma: 0.3}\n")
    with pytest.raises(UserError, match=r"got at\+awp\+ensgd and at\+awp-l2 for the perturbation"):
        resolver.resolve_method("toy", "at+awp+ensgd-l2")
    assert "at+awp+ensgd-l2" not in resolver.list_methods("toy")
    (kitchen / "at+awp+ensgd-l2.yaml").write_text("perturbation: {gamma: 0.4}\n")
    assert resolver.resolve_method("toy", "at+awp+ensgd-l2")[1]["perturbation"]["gamma"] == 0.4


def test_values_of_a_part_override_those_of_a_combination(kitchen):
    (kitchen / "+twice.yaml").write_text("perturbation: {gamma: 2}\noptimizer: {momentum: 0.5}\n")
    sections = resolver.resolve_method("toy", "at+twice+awp+ensgd")[1]
    assert sections["perturbation"] == {"name": "awp", "gamma": 2}
    assert sections["optimizer"] == {"name": "entropy_sgd", "lr": 1.0, "momentum": 0.5}


def test_a_broken_part_breaks_only_the_sums_that_it_is_in(kitchen):
    (kitchen / "+broken.yaml").write_text("hello")
    assert resolver.resolve_method("toy", "at+awp")[0] == "at+awp"
    with pytest.raises(UserError, match=r"\+broken\.yaml"):
        resolver.resolve_method("toy", "at+broken")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("-l2.yaml", "bases: 3", "list of names"),
        ("-l2.yaml", "bases: at", "list of names"),
        ("-l2.yaml", "bases: [1]", "list of names"),
        ("+awp.yaml", "perturbation: 3", "expected keys in section perturbation"),
        ("+awp.yaml", "base: toy/at", "expected a section"),
        ("at+awp.yaml", "bases: [at]", "expected a section"),
        ("at.yaml", "base: toy/other", "expected a section"),
    ],
)
def test_what_a_file_of_a_sum_cannot_say_is_refused(kitchen, file, text, said):
    (kitchen / file).write_text(text)
    with pytest.raises(UserError, match=said):
        resolver.resolve_method("toy", "at+awp-l2")


def test_a_cell_within_the_sum_gives_its_values_and_a_longer_one_wins(kitchen):
    (kitchen / "at+awp.yaml").write_text("perturbation: {gamma: 0.2}\naveraging: {name: ema}\n")
    assert resolver.resolve_method("toy", "at+awp")[1]["perturbation"]["gamma"] == 0.2
    sections = resolver.resolve_method("toy", "at+awp+ensgd-l2")[1]
    assert sections["perturbation"]["gamma"] == 0.005
    assert sections["averaging"] == {"name": "ema"}


def test_a_part_named_twice_is_refused(kitchen):
    with pytest.raises(UserError, match="each part once"):
        resolver.resolve_method("toy", "at+awp+awp")


def test_recipes_in_the_current_folder_take_precedence(kitchen):
    assert "digits" in resolver.list_datasets()
    mine = Path("recipes/digits")
    mine.mkdir()
    text = (kitchen / "at.yaml").read_text().replace("lr: 0.1", "lr: 0.07")
    (mine / "at.yaml").write_text(text)
    assert resolver.resolve_method("digits", "at")[1]["optimizer"]["lr"] == 0.07
    assert re.fullmatch("_[0-9a-f]{6}", resolve_config("digits", "at").suffix("_"))  # not mistaken for the shipped one


def test_a_users_file_can_inherit_from_a_recipe(kitchen):
    Path("mine.yaml").write_text("base: toy/at+awp\noptimizer: {lr: 0.05}\n")
    dataset, method, sections = resolve_config("mine.yaml")
    assert (dataset, method) == ("digits", "mine")
    assert sections["optimizer"]["lr"] == 0.05
    assert sections["perturbation"]["name"] == "awp"


def test_a_stored_recipe_is_a_recipe_again(kitchen):
    recipe = resolve_config("toy", "at+awp", ["optimizer.lr=0.3"])
    run = run_path(Path("runs"), recipe)
    run.begin(recipe)
    assert resolve_config(str(run.path / "recipe.yaml")) == ("toy", "at+awp", recipe.sections) == recipe
    assert Run(run.path).recipe == run.recipe == recipe
    run.begin(other := resolve_config("toy", "at+awp", ["optimizer.lr=0.3", "evaluate.n_examples=7"]))
    assert Run(run.path).recipe == run.recipe == other != recipe
    run.discard()
    with pytest.raises(UserError, match="got a part of one"):
        _ = run.recipe


def test_scaling_epochs_scales_drops_and_stages_rounding_half_up(kitchen):
    _, _, sections = resolve_config("cifar10", "at", epochs=30)
    assert sections["schedule"]["drops"] == [15, 23]  # 22.5 up
    assert sections["train"]["epochs"] == 30
    assert sections["train"]["scaled_from"] == 200
    staged = sections | {"optimizer": [{"from_epoch": 0, "name": "sgd"}, {"from_epoch": 15, "name": "entropy_sgd"}]}
    assert [s["from_epoch"] for s in scale_epochs(staged, 10)["optimizer"]] == [0, 5]
    assert [s["name"] for s in scale_epochs(staged, 1)["optimizer"]] == ["sgd"]  # the other would begin at its end
    assert validate.check_recipe("cifar10", "at", sections).title == "at (30 epochs)"


def test_other_settings_are_another_folder_and_the_evaluation_is_not_one(kitchen):
    def folder(*settings):
        return run_path(Path("runs"), resolve_config("digits", "at", settings)).path.name

    assert folder() == "at-s0"
    assert folder("train.seed=3") == "at-s3"
    assert folder("evaluate.n_examples=7") == "at-s0"
    assert re.fullmatch("at-s0-[0-9a-f]{6}", folder("optimizer.lr=0.3"))
    assert folder("optimizer.lr=0.3") != folder("optimizer.lr=0.4")
    assert folder("optimizer.momentum=0.90", "model.width=16.0") == "at-s0"  # the same numbers
    assert resolve_config("digits", "at").suffix("_") == ""
    assert re.fullmatch("_[0-9a-f]{6}", resolve_config("toy", "at").suffix("_"))  # yours are not the shipped ones


def test_a_new_name_removes_the_options_of_the_old_one(kitchen):
    settings = ["optimizer.lr=0.2", "optimizer.name=sgd", "schedule.name=cosine", "data.name=folder", "data.root=x"]
    sections = resolve_config("toy", "at+ensgd", settings)[2]
    assert sections["optimizer"] == {"name": "sgd", "lr": 0.2}
    assert sections["schedule"] == {"name": "cosine"}
    assert sections["data"]["batch_size"] == 64


def test_every_shipped_recipe_is_valid():
    for dataset in resolver.list_datasets():
        for method in resolver.list_methods(dataset):
            name, sections = resolve_config(dataset, method)[1:]
            assert name == method
            validate.check_recipe(dataset, name, sections)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["optimzer.lr=1"], "did you mean 'optimizer'"),
        (["optimizer.lrr=1"], "did you mean 'lr'"),
        (["optimizer.learning_rate=1"], "did you mean 'lr'"),
        (["optimizer.wd=1"], "did you mean 'weight_decay'"),
        (["optimizer.xyzzy=1"], "got 'xyzzy'; valid: "),
        (["optimizer.lr=fast"], "lr to be a valid number, got 'fast'"),
        (["optimizer.lr=-1"], "lr"),
        (["optimizer.name=sdg"], "did you mean 'sgd'"),
        (["objective.name=at2"], "did you mean 'at'"),
        (["objective.steps=2.5"], "steps to be a valid integer"),
        (["objective.norm=Linff"], "'Linf' or 'L2'"),
        (["model.name=resnet"], "expected a known model"),
        (["schedule.drops=[3, 1]"], "ascending"),
        (["train.epochs=0"], "epochs"),
        (["train.epoch=3"], "did you mean 'epochs'"),
        (["data.validation=0"], "hold some out"),
        (["data.augment=[crop, flop]"], "did you mean 'flip'"),
        (["data.name=digit"], "did you mean 'digits'"),
        (["data.name=folder"], "to be given 'root'"),
        (["data.rot=x"], "expected an option of data digits"),
        (["data.batchsize=3"], "did you mean 'batch_size'"),
        (["optimizer.lr=.inf"], "finite"),
        (["optimizer.lr=.nan"], "finite"),
        (["optimizer.lr=2020-01-01"], "finite number, a word or a list"),
        (["optimizer.lr=2020-99-99"], "expected YAML"),
        (["evaluate.norm=L2"], "set all three"),
        (["objective.from_epoch=3"], "list of stages"),
        (["optimizer.0.lr=3"], "expected a section of keys"),
        (["optimizer=3"], "section.key=value"),
        (["optimizer.lr.x=3"], "expected a section of keys"),
        (["optimizer.lr={"], "expected YAML in --set"),
        (["objective.name=standard", "objective={}"], "section.key=value"),
    ],
)
def test_an_invalid_override_is_reported_by_name(settings, said):
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        validate.check_recipe(*resolve_config("digits", "at", settings))
    assert "\n" not in str(refused.value)


def test_what_cannot_be_scaled_is_refused_by_the_check_and_not_by_a_crash():
    for setting in ("schedule.drops=[a]", "schedule.drops=[null]"):
        with pytest.raises(UserError, match="drops"):
            validate.check_recipe(*resolve_config("digits", "at", [setting], epochs=3))
    _, _, sections = resolve_config("digits", "at")
    assert (
        scale_epochs(scale_epochs(sections, 10), 5)["train"]["scaled_from"] == 40
    )  # the recipe's own length, however often
    with pytest.raises(UserError, match="from_epoch"):
        validate.check_recipe("digits", "at", scale_epochs(sections | {"optimizer": [{"name": "sgd"}, 3]}, 5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected sections"),
        ("data: 5", "section data"),
        ("data: [name]", "data.name"),
        ("base: digits/at\nname: ../up/x", "name of letters"),
        ("base: digits/at\nname: ../x", "name of letters"),
        ("base: digits/at\nname: digits/Kireev2021Effectiveness", "RobustBench"),
        ("base: digits/at\nname: digits/.hidden", "name of letters"),
        ("base: digits/nope", "a method of digits"),
        ("[" * 3000, "expected YAML"),
    ],
)
def test_a_file_of_your_own_is_refused_by_what_is_wrong(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        resolve_config(str(tmp_path / "mine.yaml"))


def test_a_folder_or_binary_in_the_place_of_a_recipe_is_refused(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(128, 256)))
    for name in ("folder.yaml", "bytes.yaml", "bytes.yaml/x.yaml"):
        with pytest.raises(UserError, match=r"recipe file|the file .*, got a folder"):
            resolve_config(str(tmp_path / name))


def test_a_recipe_of_your_own_needs_no_seed(tmp_path):
    _, _, sections = resolve_config("digits", "at")
    (tmp_path / "mine.yaml").write_text(yaml.dump_sections({**sections, "train": {"epochs": 2}}))
    assert resolve_config(str(tmp_path / "mine.yaml"))[2]["train"] == {"seed": 0, "epochs": 2}


@pytest.mark.parametrize(
    "stages",
    [
        [{"from_epoch": 5, "name": "sgd"}],
        [{"from_epoch": 0, "name": "sgd"}, {"from_epoch": 0, "name": "sgd"}],
        [{"from_epoch": 3, "name": "sgd"}, {"from_epoch": 0, "name": "sgd"}],
        [],
        [{"name": "sgd"}],
        ["sgd"],
    ],
)
def test_stages_must_start_at_zero_ascend_and_be_whole(stages):
    _, _, sections = resolve_config("digits", "at")
    with pytest.raises(UserError, match="from_epoch"):
        validate.check_recipe("digits", "at", sections | {"optimizer": stages})


def test_a_stage_after_the_last_epoch_is_an_error():
    _, _, sections = resolve_config("digits", "at")
    stages = [{"from_epoch": 0, "name": "sgd"}, {"from_epoch": 40, "name": "entropy_sgd"}]
    with pytest.raises(UserError, match="optimizer in recipe digits/at to start within 40 epochs, got from_epoch 40"):
        validate.check_recipe("digits", "at", sections | {"optimizer": stages})


def test_a_stage_is_active_from_its_epoch_on():
    _, _, sections = resolve_config("digits", "at")
    stages = [{"from_epoch": 0, "name": "sgd"}, {"from_epoch": 10, "name": "entropy_sgd"}]
    recipe = validate.check_recipe("digits", "at", sections | {"optimizer": stages})
    assert [recipe.stage("optimizer", epoch).name for epoch in (0, 9, 10, 39)] == [
        "sgd",
        "sgd",
        "entropy_sgd",
        "entropy_sgd",
    ]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (("digit", "at"), "did you mean 'digits'"),
        (("digits", "att"), "did you mean 'at'"),
        (("digits", "at+engsd"), "did you mean '+ensgd'"),
        (("digits", "at+"), "did you mean 'at'"),
        (("nothing.yaml", None), "nothing at nothing.yaml"),
        ((__file__, None), "expected"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(target, said):
    with pytest.raises(UserError, match=re.escape(said)):
        resolve_config(*target)


def test_epochs_to_keep_are_those_typed_and_lie_within_the_length():
    _, _, sections = resolve_config("cifar10", "at", ["train.keep=[0,15]"], epochs=30)
    assert sections["train"]["keep"] == [0, 15]
    with pytest.raises(UserError, match=r"expected train\.keep in recipe digits/at within 40 epochs, got 41"):
        validate.check_recipe(*resolve_config("digits", "at", ["train.keep=[41]"]))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("AT", "at"),
        ("PGD-AT", "at"),
        ("AT-AWP", "at+awp"),
        ("AT + EnSGD", "at+ensgd"),
        ("PGD-AT+AWP", "at+awp"),
        ("at+EntropySGD", "at+ensgd"),
        ("At-EnSGD-AWP", "at+awp+ensgd"),
        ("AT-L2", "at-l2"),
        ("at+l2", "at-l2"),
        ("at-l2", "at-l2"),
        ("at_awp", "at+awp"),
        ("AT AWP  EnSGD", "at+awp+ensgd"),
        ("pgd at + awp", "at+awp"),
        ("at+awp_ensgd", "at+awp+ensgd"),
    ],
)
def test_a_papers_name_is_understood_in_any_case_and_the_canonical_one_is_kept(kitchen, typed, name):
    assert resolver.resolve_method("toy", typed) == resolver.resolve_method("toy", name)
    assert resolve_config("toy", typed)[1] == name


def test_shipped_methods_have_papers_names_too():
    assert resolver.resolve_method("cifar10", "TRADES-AWP")[0] == "trades+awp"
    assert resolver.resolve_method("cifar10", "MART-authors") == resolver.resolve_method("cifar10", "mart-authors")


@pytest.mark.parametrize("typed", ["AWP", "awp-at", "PGD", "att", "at+", "at--awp", ""])
def test_an_unknown_method_is_refused_with_bases_and_parts(kitchen, typed):
    with pytest.raises(UserError) as refused:
        resolver.resolve_method("toy", typed)
    assert "valid: at; with any of the parts +awp, +ensgd, +slow, -l2" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_part_is_refused_with_parts_and_bases(kitchen):
    with pytest.raises(UserError, match=r"got '-awq'; did you mean .*valid: \+awp, .*; bases: at"):
        resolver.resolve_method("toy", "AT-AWQ".lower())


@pytest.mark.parametrize(
    ("typed", "said"), [("atawp", "did you mean 'at+awp'"), ("at_awq", "got '+awq'; did you mean")]
)
def test_an_unknown_method_is_answered_with_the_nearest_one_of_a_part(kitchen, typed, said):
    with pytest.raises(UserError, match=re.escape(said)):
        resolver.resolve_method("toy", typed)


def test_a_part_whose_name_has_an_underscore_is_one_part(kitchen):
    (kitchen / "+my_awp.yaml").write_text("perturbation: {gamma: 0.02}\n")
    assert resolver.resolve_method("toy", "at+my_awp")[0] == "at+my_awp"
    with pytest.raises(UserError, match="got '\\+my_awq'; did you mean '\\+my_awp'"):
        resolver.resolve_method("toy", "at+my_awq")


def test_names_that_differ_in_case_or_sign_only_are_two_methods(kitchen):
    (kitchen / "-awp.yaml").write_text("perturbation: {gamma: 0.02}\n")
    (kitchen / "AT.yaml").write_text((kitchen / "at.yaml").read_text())
    assert resolver.resolve_method("toy", "AT-awp")[0] == "AT-awp"
    assert resolver.resolve_method("toy", "at+awp")[0] == "at+awp"
    with pytest.raises(UserError, match="expected a method of toy, got 'aT'"):
        resolver.resolve_method("toy", "aT")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimizer.lr=" + "1" * 400 + "/1", "too large for a float"),
        ("optimizer.lr=1:30", "lr to be a valid number, got '1:30'"),
        ("train.epochs=1:30", "epochs"),
        ("data.extra={file: a, file: b}", "the key 'file' twice"),
        ("model.width=9223372036854775808", "64 bits"),
        ("model.width=2147483648", "2^31"),
        ("model.width=&a [*a]", "expected YAML"),
        ("evaluate.seed=18446744073709551616", "64 bits"),
        ("train.seed=true", "seed to be a valid integer"),
        ("objective.eps=2", "eps <= 1 in Linf"),
        ("evaluate.eps=2", "eps <= 1 in Linf"),
        ("data.validation=1437", "below 1437"),
        ("data.batch_size=1300", "one minibatch, got 1237"),
        ("data.batch_size=10000000000", "batch_size to be less than or equal to 1000000000"),
        ("evaluate.batch_size=10000000000", "batch_size to be less than or equal to 1000000000"),
        ("objective.steps=1000000", "steps <= 10000"),
        ("train.epochs=!!bool x", "expected YAML"),
        ("train.epochs=!!timestamp x", "expected YAML"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_before_anything_is_read(setting, said):
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        validate.check_recipe(*resolve_config("digits", "at", [setting]))
    assert "\n" not in str(raised.value)


def test_a_key_that_stands_twice_in_a_recipe_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: digits/at\noptimizer: {lr: 0.1, lr: 0.2}\n")
    with pytest.raises(UserError, match="the key 'lr' twice"):
        resolve_config(str(tmp_path / "mine.yaml"))


def test_a_text_that_yaml_1_1_reads_as_a_number_of_another_base_stays_a_text():
    assert yaml.parse_yaml("[1:30, 010, 1:30.5, 10, 0x10, 0]", "here") == ["1:30", "010", "1:30.5", 10, 16, 0]


def test_all_problems_of_a_recipe_are_reported_at_once():
    settings = ["train.epochs=0", "optimizer.lr=-1", "optimizer.lrr=2", "optimizer.momentum=2", "objective.eps=3"]
    settings += ["objective.steps=0", "evaluate.sede=1", "data.augment=[flop]", "model.width=x"]
    with pytest.raises(UserError) as raised:
        validate.check_recipe(*resolve_config("digits", "at", settings))
    said = str(raised.value).splitlines()
    assert len(said) == len(settings)
    for word in ("epochs", "lr >= 0", "'lrr'", "momentum", "eps", "steps", "'sede'", "'flop'", "width"):
        assert sum(word in line for line in said) >= 1, word


def test_a_name_too_long_for_its_entry_is_refused_before_training(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"base: digits/at\nname: digits/{'x' * 90}\n")
    with pytest.raises(UserError, match="100 at most"):
        validate.check_recipe(*resolve_config(str(tmp_path / "mine.yaml")))


def test_a_label_too_long_for_a_folder_is_refused_before_images_are_read(tmp_path):
    with pytest.raises(UserError, match="label to have at most 60 characters"):
        validate.check_recipe(
            *resolve_config("digits", "at", ["data.name=folder", "data.root=x", f"data.label={'a' * 300}"])
        )
