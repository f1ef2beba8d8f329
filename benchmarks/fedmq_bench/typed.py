"""What was typed: the command that makes a row again, as a person would write it."""

from pathlib import Path

import typer

OUTPUT = ("as_json", "keep", "out", "plot", "report", "kept")


def typed(ctx: typer.Context) -> str:
    """Return the command with what differs from the defaults, without where rows go."""
    words = ["fedmq", *ctx.command_path.split()[1:]]
    for option in ctx.command.params:
        value = ctx.params.get(str(option.name))
        if option.name in OUTPUT or value == option.default or value in (None, [], ()):
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            # A folder of this machine is nothing to a reader of the row.
            said = Path(each).name if isinstance(each, Path) or Path(str(each)).is_absolute() else str(each)
            if option.param_type_name == "argument":
                words.append(said)
            else:
                words += [option.opts[0]] if each is True else [option.opts[0], said]
    return " ".join(words)
