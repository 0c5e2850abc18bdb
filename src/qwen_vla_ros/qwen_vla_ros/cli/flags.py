"""Makes the flags of a command from a set of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, TypeVar

import typer

from qwen_vla_ros.options import Option, Options

T = TypeVar("T", bound=Options)


def with_flags(options: type[T]) -> Callable[[Callable[[T], int]], Callable[..., None]]:
    """Give a command a flag for every option, and the options for its argument."""

    def decorate(run: Callable[[T], int]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            raise typer.Exit(run(options(**given)))

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        flags = [_flag(each) for each in options.declared()]
        command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
        return command

    return decorate


def _flag(option: Option) -> Parameter:
    is_plain = option.kind is bool or not option.allowed
    text = option.description if is_plain else f"{option.description} ({option.allowed})"
    panel = f"Options of policy {option.of}" if option.of else None
    return Parameter(
        option.name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if option.default is None else option.default,
        annotation=Annotated[option.kind, typer.Option(help=text, rich_help_panel=panel)],
    )
