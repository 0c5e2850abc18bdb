import pytest

from qwen_vla_ros.errors import TrainingError
from qwen_vla_ros.training.recipe import read_recipe

GOOD = """\
sources:
  - {robot: aloha_sim, data: demos/aloha, share: 3.0}
  - {robot: diffbot_sim, data: /somewhere/base}
steps: 100
objective: {draws: 2}
"""


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


def test_folders_are_relative_to_the_recipe(tmp_path):
    recipe = read(tmp_path, GOOD)
    assert [str(source.data) for source in recipe.sources] == [
        str(tmp_path / "demos/aloha"),
        "/somewhere/base",
    ]
    assert recipe.objective.draws == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("steps: 100", "step: 100"), "recipe.yaml:4: step: unknown key. Did you mean 'steps'?"),
        (("share: 3.0", "share: 0.0"), "recipe.yaml:2: sources[0].share: "),
        (("steps: 100", "steps: many"), "recipe.yaml:4: steps: "),
        (("draws: 2", "draw: 2"), "recipe.yaml:5: objective.draw: unknown key."),
    ],
)
def test_a_wrong_recipe_is_told_with_its_line(tmp_path, change, sentence):
    with pytest.raises(TrainingError) as told:
        read(tmp_path, GOOD.replace(*change))
    assert sentence in str(told.value)
