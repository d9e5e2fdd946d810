"""Flags out of settings: type, default, bounds and help are the field's."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from absl import flags

from data_prep.common import settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.program import ProgramFlags
from data_prep.common.settings_flags import setting


@dataclass(frozen=True)
class Settings:
    count: int = setting(3, "How many.", minimum=1, maximum=9)
    rate: float = setting(0.5, "How fast.", minimum=0)
    loud: bool = setting(False, "Whether it is heard.")
    form: str = setting("round", "Of which form.", choices=("round", "square"))
    name: str | None = setting(None, "Of whom.")
    hidden: int = 7


def parsed(*arguments: str, names: tuple[str, ...] = (), **defaults: object) -> ProgramFlags:
    values = ProgramFlags()
    settings_flags.define(values, Settings, *names, **defaults)
    values(["program", *arguments])
    return values


def test_defaults_are_the_fields() -> None:
    assert settings_flags.read(parsed(), Settings) == Settings()


def test_values_are_of_the_fields_types() -> None:
    values = parsed("--count=9", "--rate=2", "--loud", "--form=square", "--name=x")
    found = settings_flags.read(values, Settings, hidden=1)
    assert found == Settings(9, 2.0, True, "square", "x", 1)


@pytest.mark.parametrize(
    "argument", ["--count=0", "--count=10", "--count=x", "--rate=-1", "--form=oval", "--hidden=1"]
)
def test_what_a_field_cannot_be_is_refused(argument: str) -> None:
    with pytest.raises(flags.Error):
        parsed(argument)


def test_some_fields_in_another_order_with_another_default() -> None:
    values = parsed(names=("rate", "count"), count=5)
    assert [name for name in values if name != "help"] == ["rate", "count"]
    assert (values.rate, values.count) == (0.5, 5)
    assert "How fast." in values.help_text("m", "")


@dataclass(frozen=True)
class Listed:
    length: int = setting(128, "How long.", listed=True)
    width: int = setting(20, "How wide.", listed=True)
    loud: bool = setting(False, "Whether it is heard.")


def listed(*arguments: str) -> ProgramFlags:
    values = ProgramFlags()
    settings_flags.define(values, Listed)
    values.parse("program", arguments)
    return values


def test_listed_flags_give_several_settings() -> None:
    assert settings_flags.read_each(listed(), Listed) == [Listed()]
    assert settings_flags.read_each(listed("--length=7"), Listed) == [Listed(7)]
    # As with any flag, the last one counts.
    values = listed("--length=1", "--length=128,512", "--width=20,77", "--loud")
    assert settings_flags.read_each(values, Listed) == [
        Listed(128, 20, loud=True), Listed(512, 77, loud=True),
    ]  # fmt: skip
    assert "--length=<integer, ...> (default: 128)" in values.help_text("m", "")
    with pytest.raises(UsageError, match="--length names 2 and --width names 1; expected as many"):
        settings_flags.read_each(listed("--length=1,2"), Listed)


@pytest.mark.parametrize("value", ["", "x", "1,", "1,,2", "1.5", "1 2", f"1,{1 << 63}"])
def test_what_a_listed_flag_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--length: expected a whole number"):
        listed(f"--length={value}")


@pytest.mark.parametrize("argument", ["--use_tpu", "--master=x", "--num_tpu_cores=8"])
def test_flags_of_tpus_are_refused_in_words(argument: str) -> None:
    values = ProgramFlags()
    settings_flags.define_tpu_flags(values)
    values(["program"])
    settings_flags.refuse_tpu_flags(values)
    values(["program", argument])
    with pytest.raises(UsageError, match="TPUs are not supported"):
        settings_flags.refuse_tpu_flags(values)
