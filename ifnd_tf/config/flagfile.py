"""Flags kept in files: presets by name, flagfiles by path, each perhaps including others."""

import pathlib
from collections.abc import Iterator, Sequence

from ifnd_tf.errors import UserError, did_you_mean, did_you_mean_path

_NAMES = ("flagfile", "preset")


def expand(arguments: Sequence[str], folder: pathlib.Path = pathlib.Path()) -> list[str]:
    """The arguments with the contents of every `--flagfile=` and `--preset=` in its place.

    Args:
        arguments: of the command line, or lines of a flagfile.
        folder: to which the flagfiles in them are relative.

    Raises:
        UserError: if a file is missing, is no text or includes itself.
    """
    return list(_expanded(_presets_first(arguments), folder, ()))


def presets() -> list[str]:
    """Names for `--preset=`: the experiments' flagfiles but base*.flags, which others include."""
    names = (path.stem for path in _presets_folder().glob("*.flags"))
    return sorted(name for name in names if not name.startswith("base"))


def preset_path(name: str) -> pathlib.Path:
    """The flagfile of a preset.

    Raises:
        UserError: if there is none of that name.
    """
    known = presets()
    if name not in known:
        raise UserError(
            f"--preset: expected one of {', '.join(known)}. Received: {name!r}."
            f"{did_you_mean(name, known) or _as_file(name)}"
        )
    return _presets_folder() / f"{name}.flags"


def preset_flags(name: str) -> dict[str, str]:
    """Name to value of each flag of an experiment."""
    pairs = (line.lstrip("-").partition("=") for line in expand([f"--preset={name}"]))
    return {key: value for key, _, value in pairs}


def _as_file(name: str) -> str:
    return f" Did you mean --flagfile={name}?" if pathlib.Path(name).is_file() else ""


def _presets_folder() -> pathlib.Path:
    """experiments/ of an installed package, or else of the checkout."""
    package = pathlib.Path(__file__).parents[1]
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parent / "experiments"


def _presets_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--preset` before all others, which then override its flags."""
    presets, others = [], []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "preset":
            presets += [argument] if equals else [argument, next(rest, "")]
        else:
            others.append(argument)
    return [*presets, *others]


def _expanded(
    arguments: Sequence[str], folder: pathlib.Path, including: tuple[pathlib.Path, ...]
) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name not in _NAMES:
            yield argument
            continue
        value = value if equals else next(rest, "")
        path = preset_path(value) if name == "preset" else _found(value, folder)
        path = path.resolve()
        if path in including:
            raise UserError(
                f"--flagfile: expected files that do not include each other in a circle. "
                f"Received: {path}, included by itself; remove that line."
            )
        yield from _expanded(_lines(path), path.parent, (*including, path))


def _found(value: str, folder: pathlib.Path) -> pathlib.Path:
    """A flagfile, relative to the file that includes it or to the working directory."""
    for path in (folder / value, pathlib.Path(value)):
        if path.is_file():
            return path
    known = presets()
    stem = pathlib.Path(value).stem
    hint = f" Did you mean --preset={stem}?" if stem in known else did_you_mean_path(value)
    raise UserError(f"--flagfile: expected a file of flags. Received: {value!r}.{hint}")


def _lines(path: pathlib.Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"--flagfile: expected text in UTF-8. Received: {path} with other bytes ({error})."
        ) from error
    except OSError as error:
        raise UserError(
            f"--flagfile: expected a file that can be read. Received: {path} ({error})."
        ) from error
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith(("#", "//"))]
